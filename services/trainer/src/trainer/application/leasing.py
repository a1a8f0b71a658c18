"""Keeping cache leases: renewed while a run needs its files, given back once it does not."""

from __future__ import annotations

import asyncio

import structlog

from millrace.documents.ports import Transact
from millrace.errors import MillraceError
from millrace.failpoints import fp
from trainer.application.ports import Cache, Queue, TrainerUnit
from trainer.domain import jobs
from trainer.domain.jobs import HELD, CacheLease, Job, State
from trainer.errors import LeaseGone, NotCached

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews and gives back; a step over all jobs with a lease."""

    def __init__(self, *, queue: Queue, transact: Transact[TrainerUnit], cache: Cache) -> None:
        self._queue = queue
        self._transact = transact
        self._cache = cache

    async def step(self) -> None:
        """Renew every lease in use and give back the others. One that fails does not hold up the rest."""
        found = await asyncio.gather(
            *(self._keep(job) for job in await self._queue.with_lease()), return_exceptions=True
        )
        failures = [result for result in found if isinstance(result, BaseException)]
        if failures:
            raise failures[0]

    async def _keep(self, job: Job) -> None:
        if job.over or job.state is State.REGISTERING:
            await fp("train.T10.before")
            await self._cache.release(job)
            await fp("train.T10.during")
            await self._transact(lambda uow: _forget(uow, job.run))
            await fp("train.T10.after")
            return
        try:
            await self._cache.renew(job)
        except LeaseGone as error:
            log.warning("cache lease is gone", run=job.run, reason=error.message)
            await self._replace(job, error.message)
        except MillraceError as error:
            if not error.transient:
                raise

    async def _replace(self, job: Job, reason: str) -> None:
        """Take another lease on the same path; without one a run that waits for a device waits for the cache again."""
        try:
            lease = await self._cache.acquire(job)
        except MillraceError as error:
            if error.transient and not isinstance(error, NotCached):
                raise
            told = f"{reason}; {error.message}"
            await self._transact(lambda uow: _lost(uow, job.run, told))
        else:
            await self._transact(lambda uow: _found(uow, job.run, lease))


async def _found(uow: TrainerUnit, run: str, lease: CacheLease) -> None:
    job = await uow.jobs.get(run)
    if job is not None and job.state in {State.READY, *HELD}:
        await uow.jobs.save(jobs.leased_again(job, lease))


async def _forget(uow: TrainerUnit, run: str) -> None:
    job = await uow.jobs.get(run)
    if job is not None and job.lease is not None and (job.over or job.state is State.REGISTERING):
        await uow.jobs.save(jobs.released(job))


async def _lost(uow: TrainerUnit, run: str, reason: str) -> None:
    job = await uow.jobs.get(run)
    if job is not None and job.lease is not None and job.state in {State.READY, *HELD}:
        await uow.jobs.save(jobs.unleased(job, reason))
