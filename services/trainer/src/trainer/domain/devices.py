"""Nodes and the devices on them, as the planner sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gpu", "cpu"]


@dataclass(frozen=True)
class Device:
    """One thing that a run holds alone: `gpu:<uuid>` or `cpu:<slot>`. `trouble` says why it may not be used."""

    id: str
    kind: Kind
    name: str = ""
    memory_bytes: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class Slot:
    """A device of a node, and who holds it under which fence."""

    device: Device
    run: str | None = None
    fence: int = 0

    @property
    def free(self) -> bool:
        """Return whether it may be granted."""
        return self.run is None and not self.device.trouble


@dataclass(frozen=True)
class Node:
    """A machine with an agent. `token` is the fencing token of the agent's lease; 0 while no agent is there."""

    name: str
    token: int
    slots: tuple[Slot, ...] = ()
    revision: int = 1

    def slots_of(self, kind: Kind) -> tuple[Slot, ...]:
        """Return the usable slots of a kind, held ones included."""
        return tuple(slot for slot in self.slots if slot.device.kind == kind and (slot.run or not slot.device.trouble))

    @property
    def kind(self) -> Kind:
        """Return what a run that wants GPUs gets here: GPUs, or CPU slots where there is no GPU."""
        return "gpu" if any(slot.device.kind == "gpu" for slot in self.slots) else "cpu"
