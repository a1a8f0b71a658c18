"""The scheduler's step: reach for cache leases, plan, and write all grants of a round in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.errors import MillraceError
from millrace.failpoints import fp, fp_sync
from millrace.leases.ports import Lease
from trainer.application import facts, metrics
from trainer.application.ports import Cache, Queue, TrainerUnit
from trainer.domain import jobs, plan
from trainer.domain.devices import Node, Slot
from trainer.domain.jobs import CacheLease, Grant, Job, State
from trainer.errors import IllegalMove

log = structlog.get_logger(__name__)

AT_ONCE = 16
IN_SIGHT = 64
"""Runs that reach for their cache lease in one step, the next ones in order: a lease pins its version at the site."""

FIRST_LOOK, LAST_LOOK = 0.1, 2.0
"""Seconds after which a run that begins early asks again, doubling; then it waits as others do."""


class Scheduler:
    """Decides for the whole cluster, while it holds the scheduler's lease."""

    def __init__(
        self,
        *,
        queue: Queue,
        transact: Transact[TrainerUnit],
        cache: Cache,
        clock: Clock,
        on_grant: Callable[[], None],
        again: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """Build it. `again` lets a step follow in so many seconds, sooner than the next one would."""
        self._queue = queue
        self._transact = transact
        self._cache = cache
        self._clock = clock
        self._on_grant = on_grant
        self._again = again
        self._pauses: dict[str, float] = {}
        self._asking = asyncio.Semaphore(AT_ONCE)

    async def step(self, lease: Lease) -> None:
        """Bring the queue forward as far as it goes now."""
        waiting = sorted(await self._queue.in_state(State.WAITING), key=lambda job: (-job.priority, job.ticket))
        metrics.WAITING.labels("cache").set(len(waiting))
        self._pauses = {job.run: self._pauses[job.run] for job in waiting if job.run in self._pauses}
        await asyncio.gather(*(self._reach(job) for job in waiting[:IN_SIGHT]))
        if await self._queue.in_state(State.READY):
            await self._grant(lease)

    async def _reach(self, job: Job) -> None:
        """Take the job's cache lease, or note why there is none."""
        async with self._asking:
            try:
                lease = await self._cache.acquire(job)
            except MillraceError as error:
                self._look_again(job)
                await self._note(job, error.message)
                return
        await self._transact(lambda uow: _leased(uow, job.run, lease))

    def _look_again(self, job: Job) -> None:
        """Ask again soon for one that begins early: a manifest is there in a moment, and nobody announces it."""
        pause = self._pauses.get(job.run, FIRST_LOOK)
        if job.early and pause <= LAST_LOOK:
            self._pauses[job.run] = pause * 2
            self._again(pause)

    async def _note(self, job: Job, reason: str) -> None:
        if reason != job.reason:
            await self._transact(lambda uow: _waits(uow, job.run, reason))

    async def _grant(self, lease: Lease) -> None:
        async def work(uow: TrainerUnit) -> int:
            await uow.guard(lease)
            return await grant_round(uow, self._on_grant)

        await fp("train.T2.before")
        made = await self._transact(work)
        if made:
            await fp("train.T2.after")
            log.info("devices granted", runs=made, token=lease.token)


async def grant_round(uow: TrainerUnit, on_grant: Callable[[], None]) -> int:
    """Plan on what the transaction sees, write every grant and every new explanation; return how many were granted."""
    ready = {job.run: job for job in await uow.jobs.in_state(State.READY)}
    nodes = {node.name: node for node in await uow.nodes.all()}
    wishes = tuple(plan.Wish(job.run, job.gpus, job.priority, job.ticket) for job in ready.values())
    decided = plan.plan(plan.State(tuple(nodes.values()), wishes))
    metrics.WAITING.labels("device").set(len(decided.explanations))
    for made in decided.allocations:
        fence = await uow.next("fence")
        job = ready[made.run]
        await uow.jobs.save(jobs.granted(job, Grant(made.node, made.token, made.devices, fence)))
        nodes[made.node] = _claimed(nodes[made.node], made, fence)
    for name in sorted({made.node for made in decided.allocations}):
        await uow.nodes.save(replace(nodes[name], revision=nodes[name].revision + 1))
    for run, reason in decided.explanations.items():
        if reason != ready[run].reason:
            await _explain(uow, ready[run], reason)
    if decided.allocations:
        await fp("train.T2.during")
        uow.after_commit(on_grant)
        uow.after_commit(lambda: fp_sync("train.T2.after"))
    return len(decided.allocations)


def _claimed(node: Node, made: plan.Allocation, fence: int) -> Node:
    wanted = set(made.devices)
    for slot in node.slots:
        if slot.device.id in wanted and not slot.free:
            raise IllegalMove(f"{slot.device.id} of {node.name} is held by {slot.run}")
    slots = tuple(Slot(slot.device, made.run, fence) if slot.device.id in wanted else slot for slot in node.slots)
    return replace(node, slots=slots)


async def _leased(uow: TrainerUnit, run: str, lease: CacheLease) -> None:
    job = await uow.jobs.get(run)
    if job is not None and job.state is State.WAITING:
        await uow.jobs.save(jobs.leased(job, lease))


async def _waits(uow: TrainerUnit, run: str, reason: str) -> None:
    job = await uow.jobs.get(run)
    if job is not None and job.state is State.WAITING:
        await _explain(uow, job, reason)


async def _explain(uow: TrainerUnit, job: Job, reason: str) -> None:
    explained = jobs.waits(job, reason[:2_000])
    await uow.jobs.save(explained)
    facts.announce(uow, explained, facts.queued(explained))
