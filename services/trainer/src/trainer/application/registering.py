"""Registering stored packages at the catalog: from the job's document alone, so that any trainer can do it."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.errors import MillraceError
from millrace.failpoints import fp
from millrace.telemetry import span
from trainer.application import facts
from trainer.application.moves import move_any
from trainer.application.ports import Catalog, Queue, TrainerUnit
from trainer.domain import jobs
from trainer.domain.jobs import Job, State

log = structlog.get_logger(__name__)


class Registrar:
    """A step over all jobs whose package waits for the catalog."""

    def __init__(self, *, queue: Queue, transact: Transact[TrainerUnit], catalog: Catalog, clock: Clock) -> None:
        self._queue = queue
        self._transact = transact
        self._catalog = catalog
        self._clock = clock

    async def step(self) -> None:
        """Register what waits; a catalog that is away is asked again later."""
        for job in await self._queue.in_state(State.REGISTERING):
            with span("register", parent=facts.cause_of(job).traceparent):
                await self._register(job)

    async def _register(self, job: Job) -> None:
        try:
            version = await self._catalog.register(job)
        except MillraceError as error:
            if error.transient:
                raise
            reason = f"the catalog refuses the model: {error.message}"
            await self._settle(job.run, lambda it: jobs.refused(it, reason, self._clock.now()))
            return
        await fp("train.T9.before")
        await self._settle(job.run, lambda it: jobs.registered(it, version, self._clock.now()))
        await fp("train.T9.after")
        log.info("run completed", run=job.run, model=job.model, version=version)

    async def _settle(self, run: str, move: Callable[[Job], Job]) -> None:
        async def work(uow: TrainerUnit) -> None:
            job = await uow.jobs.get(run)
            if job is not None and job.state is State.REGISTERING:
                await move_any(uow, run, move)
                await fp("train.T9.during")

        await self._transact(work)
