"""Moves of one job with everything that belongs to them, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from millrace.errors import Fenced
from millrace.events import EventData
from millrace.failpoints import fp, fp_sync
from trainer.application import facts
from trainer.application.ports import TrainerUnit
from trainer.domain.devices import Node, Slot
from trainer.domain.jobs import Job
from trainer.errors import JobNotFound


async def move_held(uow: TrainerUnit, run: str, fence: int, move: Callable[[Job], Job]) -> Job:
    """Move a job that is held under `fence`; devices it loses are free again, and the outcome is announced.

    Raises:
        Fenced: it is not held under this fence any more.
    """
    job = await uow.jobs.get(run)
    if job is None or not job.held_under(fence):
        raise Fenced(f"run {run} is not held under fence {fence} any more", fence=job.fence if job else 0)
    moved = move(job)
    if moved == job:
        return job
    await uow.jobs.save(moved)
    if moved.grant is None:
        await free_devices(uow, job)
    await _announce(uow, moved, facts.outcome(moved, job.grant))
    return moved


async def _announce(uow: TrainerUnit, job: Job, fact: EventData | None) -> None:
    if fact is not None:
        await fp("train.T11.before")
        facts.announce(uow, job, fact)
        uow.after_commit(lambda: fp_sync("train.T11.after"))


async def free_devices(uow: TrainerUnit, job: Job) -> None:
    """Free what the job's grant holds."""
    node = await uow.nodes.get(job.need_grant().node)
    if node is not None:
        await uow.nodes.save(_freed(node, job.run))


def _freed(node: Node, run: str) -> Node:
    slots = tuple(Slot(slot.device) if slot.run == run else slot for slot in node.slots)
    return Node(node.name, node.token, slots, node.revision + 1)


async def move_any(uow: TrainerUnit, run: str, move: Callable[[Job], Job]) -> Job:
    """Move a job that is not held, and announce the outcome.

    Raises:
        JobNotFound: there is none. IllegalMove: its state does not allow it.
    """
    job = await uow.jobs.get(run)
    if job is None:
        raise JobNotFound(f"no run {run} in the queue")
    moved = move(job)
    if moved == job:
        return job
    await uow.jobs.save(moved)
    await _announce(uow, moved, facts.outcome(moved))
    return moved
