"""Which process holds a lease, so that a restarted service need not wait for a holder that is provably dead.

A process is named by the machine's boot id, its PID namespace, its PID and its start time in clock ticks. An
observer in the same boot and namespace can look the PID up: if it is gone, a zombie, or was started at another time,
the holder cannot act any more. Any other observer learns nothing and waits for the beats to stop.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class HolderIdentity(Protocol):
    """Describes the own process to others, and judges descriptions of others."""

    def describe(self) -> dict[str, str]:
        """Return what is stored with a lease."""

    def is_dead(self, described: Mapping[str, str]) -> bool:
        """Return whether the described process certainly runs no more; False when unsure."""


class ProcessIdentity:
    """Linux processes, by /proc."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def describe(self) -> dict[str, str]:
        """Return boot, namespace, pid and start time of this process; empty where /proc does not tell."""
        try:
            return {**self._place(), "pid": str(os.getpid()), "start": self._start(os.getpid()) or ""}
        except OSError:
            return {}

    def is_dead(self, described: Mapping[str, str]) -> bool:
        """Return whether the described process ran on this boot and in this namespace, and is gone."""
        try:
            place = self._place()
            if not described or any(described.get(key) != value for key, value in place.items()):
                return False
            return self._start(int(described["pid"])) != described["start"]
        except (OSError, ValueError, KeyError):
            return False

    def _place(self) -> dict[str, str]:
        boot = (self._proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot": boot, "namespace": str((self._proc / "self/ns/pid").readlink())}

    def _start(self, pid: int) -> str | None:
        """Return the start time of a live process; None if there is none or it is a zombie."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else fields[19]
