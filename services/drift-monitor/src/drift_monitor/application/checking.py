"""The invariants that can be seen in state, for `millrace fsck`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from drift_monitor.application.ports import MonitorUnitOfWork
from drift_monitor.application.samples import sample_key
from drift_monitor.domain import incidents as stages
from drift_monitor.domain.checkpoint import Checkpoint
from drift_monitor.domain.incidents import Incident
from drift_monitor.domain.labels import ANSWERED, LabelQueue
from millrace.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant; numbers are those of the reliability document."""

    invariant: str
    what: str
    where: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is remembered, as of one moment."""

    checkpoints: Sequence[Checkpoint]
    incidents: Sequence[Incident]
    queues: Sequence[LabelQueue]
    census: dict[str, tuple[int, int, int]]


async def snapshot(uow: MonitorUnitOfWork) -> Snapshot:
    """Return the state as one transaction sees it."""
    return Snapshot(
        checkpoints=await uow.checkpoints.every(),
        incidents=await uow.incidents.every(),
        queues=await uow.queues.every(),
        census=await uow.windows.census(),
    )


async def check(state: Snapshot, objects: ObjectStore) -> tuple[int, list[Violation]]:
    """Return how many things were looked at, and what is wrong with them."""
    found = _counts(state.checkpoints, state.census)
    found += _incidents(state.incidents, state.checkpoints, state.queues)
    for queue in state.queues:
        found += _queue(queue)
        found += await _pictures(queue, objects)
    windows = sum(count for count, _, _ in state.census.values())
    return len(state.checkpoints) + len(state.incidents) + len(state.queues) + windows, found


def _counts(checkpoints: Sequence[Checkpoint], census: dict[str, tuple[int, int, int]]) -> list[Violation]:
    """Every row that was ever marked is in exactly one window, and window numbers have no gaps."""
    found = []
    for one in checkpoints:
        windows, rows, highest = census.get(one.id, (0, 0, -1))
        if rows + one.pending_rows != one.counted:
            what = f"{one.counted} rows were marked, {rows} are in closed and {one.pending_rows} in other windows"
            found.append(Violation("I4", what, one.id))
        waiting = len(one.open) + len(one.closing)
        if windows + waiting != one.next_window or highest >= one.next_window:
            what = f"{windows} closed and {waiting} other windows, yet the next number is {one.next_window}"
            found.append(Violation("I3", what, one.id))
    return found


def _incidents(
    incidents: Sequence[Incident], checkpoints: Sequence[Checkpoint], queues: Sequence[LabelQueue]
) -> list[Violation]:
    """At most one open incident per deployment, the one its checkpoint names; asked means that the queue exists."""
    found = []
    named = {one.id: one.incident for one in checkpoints}
    known = {queue.id for queue in queues}
    open_by_deployment = Counter(
        f"{one.watch.project}/{one.watch.deployment}" for one in incidents if one.state == stages.OPEN
    )
    found += [Violation("I9", "more than one open incident", key) for key, n in open_by_deployment.items() if n > 1]
    for one in incidents:
        key = f"{one.watch.project}/{one.watch.deployment}"
        if (one.state == stages.OPEN) != (named.get(key) == one.id):
            found.append(Violation("I9", f"incident is {one.state}, the checkpoint names {named.get(key)}", one.id))
        if one.queue is not None and one.queue not in known:
            found.append(Violation("I4", f"queue {one.queue} does not exist", one.id))
    return found


def _queue(queue: LabelQueue) -> list[Violation]:
    found = []
    if len({item.digest for item in queue.items}) != len(queue.items):
        found.append(Violation("I4", "a picture is asked for twice", queue.id))
    if (queue.state == "open") == queue.complete:
        found.append(Violation("I9", f"queue is {queue.state} with {queue.answered} of {len(queue.items)}", queue.id))
    return found


async def _pictures(queue: LabelQueue, objects: ObjectStore) -> list[Violation]:
    """Every sample that a person may still be shown, or that must still land, has its picture."""
    if queue.state not in {"open", ANSWERED}:
        return []
    missing = [item for item in queue.items if await objects.head(sample_key(queue.project, item.digest)) is None]
    return [Violation("I2", f"picture {item.digest} is missing", queue.id) for item in missing]
