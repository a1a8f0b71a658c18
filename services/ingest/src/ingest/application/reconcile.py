"""Desired against observed: every job that has not ended is worked on, those of one dataset one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import groupby

import structlog

from ingest.application import announce, metrics
from ingest.application.ports import Unit
from ingest.application.working import work_on
from ingest.application.world import World
from ingest.domain.jobs import ENDED, Job, Move, backoff
from millrace.errors import Fenced, MillraceError, Unavailable
from millrace.leases.holding import while_held
from millrace.leases.ports import Lease
from millrace.tasks import cancel_and_wait
from millrace.telemetry import span

log = structlog.get_logger(__name__)

MAX_REASON = 1_900

Target = tuple[str, str]
"""Project and dataset."""


class Attendance:
    """Works on waiting jobs in the background; `step()` never waits for one."""

    def __init__(self, world: World, *, datasets: int) -> None:
        self._world = world
        self._room = asyncio.Semaphore(datasets)
        self._tasks: dict[Target, asyncio.Task[None]] = {}

    async def step(self) -> None:
        """Start work on every dataset that has a job and no worker in this process."""
        waiting = await self._world.jobs.waiting()
        self._world.rests.keep({job.id for job in waiting})
        for target, jobs in _by_target(waiting):
            if target not in self._tasks and due(jobs[0], self._world):
                self._start(target, jobs)

    def _start(self, target: Target, jobs: list[Job]) -> None:
        task = asyncio.create_task(self._attend(target, jobs), name=f"ingest {target[0]}/{target[1]}")
        self._tasks[target] = task
        task.add_done_callback(lambda _: self._tasks.pop(target, None))

    async def _attend(self, target: Target, jobs: list[Job]) -> None:
        async with self._room:
            try:
                await attend(target, jobs, self._world)
            except MillraceError as error:
                log.warning("ingestion waits", dataset=target[1], reason=error.message)
            except Exception:
                log.exception("ingestion broke", dataset=target[1])

    async def idle(self) -> None:
        """Wait until nothing is worked on (tests)."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Stop all work; leases that are held end with it."""
        await cancel_and_wait(list(self._tasks.values()))


def due(job: Job, world: World) -> bool:
    """Return whether a job's pause after its last failure is over."""
    unchanged = world.rests.silence(job.id, job.revision, world.clock.monotonic())
    return unchanged >= backoff(job.attempts, first=world.limits.first_retry, last=world.limits.last_retry)


async def attend(target: Target, jobs: list[Job], world: World) -> None:
    """Work on a dataset's jobs in the order in which they came, unless another process does."""
    lease = await world.leases.acquire(f"dataset/{target[0]}/{target[1]}", world.holder)
    if lease is None:
        return
    try:
        await while_held(lease, _each(jobs, lease, world), leases=world.leases, clock=world.clock)
    except Fenced as error:
        log.warning("another process ingests into the dataset now", dataset=target[1], reason=error.message)
    finally:
        await _release(lease, world)


async def _each(jobs: list[Job], lease: Lease, world: World) -> None:
    for waiting in jobs:
        job = await world.jobs.claim(waiting.id, lease.token)
        if job is None or job.state in ENDED:
            continue
        if not due(job, world):
            return
        with span("ingest.job", parent=job.cause.traceparent):
            if not await _one(job, lease, world):
                return


async def _one(job: Job, lease: Lease, world: World) -> bool:
    """Work on one job; return whether the next one may begin."""
    try:
        await work_on(job, lease, world)
    except Fenced:
        raise
    except MillraceError as error:
        return await _record(job.id, error, lease, world)
    return True


async def _record(job_id: str, error: MillraceError, lease: Lease, world: World) -> bool:
    job = await world.jobs.get(job_id)
    if job is None or job.token != lease.token or job.state in ENDED:
        return True
    log.warning("ingestion failed", job=job.id, code=error.code, reason=error.message)
    unbounded = isinstance(error, Unavailable)
    if error.transient and (unbounded or job.attempts + 1 < world.limits.attempts):
        attempts = job.attempts + 1
        pause = backoff(attempts, first=world.limits.first_retry, last=world.limits.last_retry)
        reason = f"attempt {attempts} failed: {error.message[:MAX_REASON]}; tried again in {pause:g} s"
        metrics.RETRIES.labels(error.code).inc()
        await world.jobs.note(job, attempts=attempts, reason=reason, updated_at=world.clock.now())
        return False

    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        failed = await uow.jobs.move(
            job, Move.FAIL, reason=error.message[:MAX_REASON], prepared=None, updated_at=world.clock.now()
        )
        announce.failed(failed, uow=uow)

    await world.transact(work)
    metrics.JOBS.labels("failed").inc()
    return True


async def _release(lease: Lease, world: World) -> None:
    try:
        await world.leases.release(lease)
    except MillraceError as error:
        log.warning("lease not released; it ends by itself", lease=lease.name, reason=error.message)


def _by_target(jobs: list[Job]) -> Iterator[tuple[Target, list[Job]]]:
    for target, group in groupby(sorted(jobs, key=_target), key=_target):
        yield target, list(group)


def _target(job: Job) -> Target:
    return (job.project, job.dataset)
