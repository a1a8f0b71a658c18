"""From landed files to a committed version. Every step may be the last before a crash, and is then done again.

What was asked of the catalog is remembered before it is asked, so that an answer that got lost is asked for again
under the same key and in the same words.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import structlog

from ingest.application import announce, metrics
from ingest.application.ports import Bounds, Built, Committed, Examined, Head, Unit
from ingest.application.progress import Progress, reported
from ingest.application.world import World
from ingest.domain.jobs import Job, Move, State
from ingest.domain.places import parse, permitted, shown
from ingest.errors import HeadMoved, KeyReused
from millrace.errors import Exhausted
from millrace.failpoints import fp
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)


async def work_on(job: Job, lease: Lease, world: World) -> None:
    """Do everything that a job still needs."""
    if job.state is State.QUEUED:
        job = await _start(job, lease, world)
    version = await _asked_before(job, world)
    if version is None:
        job, version = await _make(job, world)
    await _complete(job, version, lease, world)


async def _start(job: Job, lease: Lease, world: World) -> Job:
    async def work(uow: Unit) -> Job:
        await uow.guard(lease)
        running = await uow.jobs.move(job, Move.START, reason="reading the landed files", updated_at=world.clock.now())
        announce.started(running, uow=uow)
        return running

    return await world.transact(work)


async def _asked_before(job: Job, world: World) -> Committed | None:
    """Return the version of a commit that was asked for before a crash, if the catalog made it, or makes it now."""
    if job.prepared is None:
        return None
    try:
        return await world.catalog.commit(job, job.prepared)
    except HeadMoved:
        return None
    except KeyReused:
        return await world.catalog.made_by(job)


async def _make(job: Job, world: World) -> tuple[Job, Committed]:
    """Build the version on the dataset's head and commit it; anew on the next head if somebody else was faster."""
    async with AsyncExitStack() as held:
        await fp("commit.D1.before")
        progress = await held.enter_async_context(reported(job, world))
        job, landed = await _examined(job, world, held, progress)
        await fp("commit.D1.after")
        return await _commit(job, landed, world, progress)


async def _examined(job: Job, world: World, held: AsyncExitStack, progress: Progress) -> tuple[Job, Examined]:
    """List what landed and look at all of it; `held` keeps it readable."""
    openly = world.examiner.openly(job.project)
    bounds = Bounds(world.limits.max_files, world.limits.max_bytes, openly)
    named = parse(job.uri, form=job.format, urls=job.urls)
    place = permitted(
        named, job.project, buckets=world.buckets, zones=world.zones, roots=world.roots, scheme=world.scheme
    )
    landing = await held.enter_async_context(world.places.open(place, job.format, bounds))
    job = await world.jobs.note(
        job, mark=landing.mark, files=len(landing.files), bytes=landing.bytes, reason="examining the landed files"
    )
    landed = await held.enter_async_context(world.examiner.open(job.project, landing, progress))
    return await world.jobs.note(
        job, files=len(landed.files), bytes=landed.bytes, dropped=landed.dropped, reason="writing to the lake"
    ), landed


async def _commit(job: Job, landed: Examined, world: World, progress: Progress) -> tuple[Job, Committed]:
    for _ in range(world.limits.rebases):
        head = await world.catalog.head(job)
        built = await world.lake.build(job.project, landed, head, job.mode, progress)
        if landed.check is not None:
            await landed.check()
        await fp("commit.D4.before")
        body = _body(job, built, head, anonymous=landed.anonymous)
        job = await world.jobs.note(job, prepared=body, reason="committing")
        await fp("commit.D4.after")
        try:
            return job, await world.catalog.commit(job, body)
        except HeadMoved:
            log.info("the dataset's head moved; the version is built again on the new one", job=job.id)
        except KeyReused:
            if (made := await world.catalog.made_by(job)) is not None:
                return job, made
            raise
    raise Exhausted(f"the head of {job.dataset} moved {world.limits.rebases} times while its version was built")


def _body(job: Job, built: Built, head: Head | None, *, anonymous: bool) -> dict[str, Any]:
    """Return the commit that is asked for; the place of patients' data is not repeated: it may tell whose they are."""
    lineage: dict[str, Any] = {**job.lineage, "event": job.id}
    if anonymous:
        lineage.pop("source", None)
    else:
        lineage["source"] = shown(job.uri)
    if head is not None:
        lineage["parent"] = head.commit
    return {
        "manifest": built.manifest,
        "tree_root": built.tree_root,
        "files": built.files,
        "bytes": built.bytes,
        "packs": list(built.packs),
        "parent": head.commit if head else None,
        "message": job.message or ("ingested, de-identified" if anonymous else f"ingested from {shown(job.uri)}"),
        "lineage": lineage,
        "records": built.records,
    }


async def _complete(job: Job, version: Committed, lease: Lease, world: World) -> None:
    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        done = await uow.jobs.move(
            job,
            Move.COMPLETE,
            version=version.version,
            commit=version.commit,
            prepared=None,
            done=job.files,
            reason="",
            updated_at=world.clock.now(),
        )
        announce.completed(done, version, uow=uow)

    await world.transact(work)
    metrics.JOBS.labels("completed").inc()
    metrics.FILES.inc(job.files)
    metrics.BYTES.inc(job.bytes)
    log.info("ingested", job=job.id, dataset=job.dataset, version=version.version, files=version.files)
