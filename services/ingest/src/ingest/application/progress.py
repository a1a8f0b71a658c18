"""How far a job is, written into its document every few seconds while it is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from ingest.application.world import World
from ingest.domain.jobs import Job
from millrace.errors import MillraceError
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0


class Progress:
    """Files that are done of the present step; whoever works says so."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, files: int) -> None:
        """Say how many files are done."""
        self.done = files


@asynccontextmanager
async def reported(job: Job, world: World) -> AsyncIterator[Progress]:
    """Write down what is said of the progress until the context ends."""
    progress = Progress()
    task = asyncio.create_task(_report(job, progress, world), name=f"progress of {job.id}")
    try:
        yield progress
    finally:
        await cancel_and_wait([task])


async def _report(job: Job, progress: Progress, world: World) -> None:
    written = 0
    while True:
        await world.clock.sleep(EVERY_SECONDS)
        if progress.done == written:
            continue
        written = progress.done
        try:
            await world.jobs.note(job, done=written)
        except MillraceError as error:  # the work itself notices what matters
            log.info("the progress of a job was not written down", job=job.id, reason=error.message)
