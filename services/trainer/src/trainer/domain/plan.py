"""The planner: who gets which devices, and why the others wait. Pure: no clock, no I/O, no randomness.

Order: priority, then arrival. A run that fits nowhere now, but would on an idle node, holds its place: nobody behind
it that wants the same kind of device overtakes it, so that a large run is not starved by small ones. A run that can
never fit holds nobody up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from trainer.domain.devices import Kind, Node, Slot


@dataclass(frozen=True)
class Wish:
    """A run that is ready for devices. `gpus` 0 asks for one CPU slot."""

    run: str
    gpus: int
    priority: int
    ticket: int


@dataclass(frozen=True)
class Allocation:
    """Devices of one node for one run: all that it wants, or it is not made."""

    run: str
    node: str
    token: int
    devices: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """Everything that a plan depends on."""

    nodes: tuple[Node, ...]
    wishes: tuple[Wish, ...]


@dataclass(frozen=True)
class Plan:
    """Allocations to make, and for each other run why it waits."""

    allocations: tuple[Allocation, ...]
    explanations: dict[str, str]


def plan(state: State) -> Plan:
    """Return what to grant in this round."""
    free = {node.name: [slot for slot in node.slots if slot.free] for node in state.nodes if node.token}
    nodes = {node.name: node for node in state.nodes if node.token}
    allocations: list[Allocation] = []
    explanations: dict[str, str] = {}
    blocked: dict[Kind, str] = {}
    for wish in sorted(state.wishes, key=lambda wish: (-wish.priority, wish.ticket, wish.run)):
        kinds = _kinds(wish, nodes.values())
        ahead = next((blocked[kind] for kind in sorted(kinds) if kind in blocked), None)
        if not any(_could(wish, node) for node in nodes.values()):
            explanations[wish.run] = _never(wish, nodes.values())
        elif ahead is not None:
            explanations[wish.run] = f"waits behind run {ahead}, which waits for more devices"
        elif (chosen := _place(wish, nodes, free)) is not None:
            allocations.append(chosen)
            taken = set(chosen.devices)
            free[chosen.node] = [slot for slot in free[chosen.node] if slot.device.id not in taken]
        else:
            explanations[wish.run] = _busy(wish, nodes.values(), free, allocations)
            blocked.update(dict.fromkeys(kinds, wish.run))
    return Plan(tuple(allocations), explanations)


def _kind(wish: Wish, node: Node) -> Kind:
    return node.kind if wish.gpus else "cpu"


def _kinds(wish: Wish, nodes: Collection[Node]) -> set[Kind]:
    return {_kind(wish, node) for node in nodes if _could(wish, node)}


def _count(wish: Wish) -> int:
    return max(1, wish.gpus)


def _could(wish: Wish, node: Node) -> bool:
    return len(node.slots_of(_kind(wish, node))) >= _count(wish)


def _place(wish: Wish, nodes: dict[str, Node], free: dict[str, list[Slot]]) -> Allocation | None:
    """Choose the fullest node that has room, so that large runs still find empty ones."""
    fitting: list[tuple[int, str, list[Slot]]] = []
    for name, node in nodes.items():
        slots = [slot for slot in free[name] if slot.device.kind == _kind(wish, node)]
        if len(slots) >= _count(wish):
            fitting.append((len(slots), name, slots))
    if not fitting:
        return None
    _, name, slots = min(fitting, key=lambda fit: fit[:2])
    devices = tuple(slot.device.id for slot in slots[: _count(wish)])
    return Allocation(wish.run, name, nodes[name].token, devices)


def _never(wish: Wish, nodes: Collection[Node]) -> str:
    if not nodes:
        return "waits for a node: no agent is there"
    largest = max(len(node.slots_of(_kind(wish, node))) for node in nodes)
    return f"wants {_count(wish)} devices of one node; the largest node has {largest} that can be used"


def _busy(wish: Wish, nodes: Collection[Node], free: dict[str, list[Slot]], allocations: list[Allocation]) -> str:
    able = [node for node in nodes if _could(wish, node)]
    kinds = {_kind(wish, node) for node in able}
    holders = {slot.run for node in able for slot in node.slots if slot.run and slot.device.kind in kinds}
    holders |= {made.run for made in allocations}
    spare = max(sum(slot.device.kind == _kind(wish, node) for slot in free[node.name]) for node in able)
    names = ", ".join(sorted(holders)[:3]) or "nobody"
    what = "a GPU" if kinds == {"gpu"} else "a CPU slot" if kinds == {"cpu"} else "a device"
    wanted = what if _count(wish) == 1 else f"{_count(wish)} devices of one node ({spare} free)"
    return f"waits for {wanted}; held by run {names}"
