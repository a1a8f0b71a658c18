"""From landed files to a committed version. Every step may be the last before a crash, and is then done again.

What was asked of the catalog is remembered before it is asked, so that an answer that got lost is asked for again
under the same key and in the same words.
"""

from __future__ import annotations

from typing import Any

import structlog

from ingest.application import announce, metrics
from ingest.application.ports import Built, Committed, Head, Landing, Unit
from ingest.application.world import World
from ingest.domain.jobs import Job, Move, State
from ingest.domain.places import parse, permitted
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
    await fp("commit.D1.before")
    landing = await _listed(job, world)
    await fp("commit.D1.after")
    job = await world.jobs.note(job, mark=landing.mark, files=len(landing.files), bytes=landing.bytes)
    for _ in range(world.limits.rebases):
        head = await world.catalog.head(job)
        built = await world.lake.build(job.project, landing, head, job.mode)
        await fp("commit.D4.before")
        job = await world.jobs.note(job, prepared=_body(job, built, head), reason="committing")
        await fp("commit.D4.after")
        try:
            return job, await world.catalog.commit(job, _body(job, built, head))
        except HeadMoved:
            log.info("the dataset's head moved; the version is built again on the new one", job=job.id)
        except KeyReused:
            if (made := await world.catalog.made_by(job)) is not None:
                return job, made
            raise
    raise Exhausted(f"the head of {job.dataset} moved {world.limits.rebases} times while its version was built")


async def _listed(job: Job, world: World) -> Landing:
    place = permitted(parse(job.uri), job.project, buckets=world.buckets, zones=world.zones)
    return await world.places.list(place, max_files=world.limits.max_files, max_bytes=world.limits.max_bytes)


def _body(job: Job, built: Built, head: Head | None) -> dict[str, Any]:
    lineage: dict[str, Any] = {**job.lineage, "event": job.id, "source": job.uri}
    if head is not None:
        lineage["parent"] = head.commit
    return {
        "manifest": built.manifest,
        "tree_root": built.tree_root,
        "files": built.files,
        "bytes": built.bytes,
        "packs": list(built.packs),
        "parent": head.commit if head else None,
        "message": job.message or f"ingested from {job.uri}",
        "lineage": lineage,
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
            reason="",
            updated_at=world.clock.now(),
        )
        announce.completed(done, version, uow=uow)

    await world.transact(work)
    metrics.JOBS.labels("completed").inc()
    metrics.FILES.inc(job.files)
    metrics.BYTES.inc(job.bytes)
    log.info("ingested", job=job.id, dataset=job.dataset, version=version.version, files=version.files)
