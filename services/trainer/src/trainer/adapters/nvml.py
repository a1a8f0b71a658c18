"""The devices of this machine: GPUs by NVML; CPU slots always, for runs that want no GPU or find none."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pynvml

from trainer.domain.devices import Device


def cpu_slots() -> int:
    """Return half the cores this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


class NvmlInventory:
    """Asks NVML at each look. No driver, or one that fails, means no GPUs; the machine then has its CPU slots."""

    def __init__(self, *, slots: int | None = None, nvml: Any = pynvml, gpus: bool = True) -> None:
        self._slots = cpu_slots() if slots is None else slots
        self._nvml = nvml
        self._gpus = gpus

    async def devices(self, ours: frozenset[int]) -> list[Device]:
        """Return GPUs and CPU slots. A GPU that a process outside of the groups `ours` uses has a `trouble`."""
        found = await asyncio.to_thread(self._look, ours) if self._gpus else []
        return [*found, *(Device(f"cpu:{number}", "cpu", name="CPU slot") for number in range(self._slots))]

    def _look(self, ours: frozenset[int]) -> list[Device]:
        nvml = self._nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return []
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            return [self._device(handle, ours) for handle in handles]
        except nvml.NVMLError:
            return []
        finally:
            nvml.nvmlShutdown()

    def _device(self, handle: Any, ours: frozenset[int]) -> Device:
        nvml = self._nvml
        name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
        trouble = ""
        try:
            pids = sorted(process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))
            foreign = [pid for pid in pids if _group(pid) not in ours]
            trouble = f"used by process {foreign[0]}, which is no run of ours" if foreign else ""
        except nvml.NVMLError as error:
            trouble = f"does not answer: {error}"
        return Device(f"gpu:{uuid}", "gpu", name, int(nvml.nvmlDeviceGetMemoryInfo(handle).total), trouble)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
