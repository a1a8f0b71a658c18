"""Landed data becomes a job: from an event, or from a finished batch that was found by looking."""

from __future__ import annotations

import structlog
from blake3 import blake3

from ingest.application.ports import Batch, Unit
from ingest.application.world import World
from ingest.domain.jobs import ENDED, Cause, Job
from ingest.domain.places import Zone
from millrace.clock import Clock
from millrace.errors import MillraceError
from millrace.events import DataLanded, encode
from millrace.events.envelope import AnyEvent

log = structlog.get_logger(__name__)


async def receive_landing(event: AnyEvent, *, uow: Unit, clock: Clock) -> None:
    """Record the job of a `data.landed`, once for each event. Whether the data may be taken is judged by the job."""
    data: DataLanded = event.data
    if await uow.jobs.get(event.key) is not None:
        return
    cause = Cause(
        event=encode(event),
        correlation=event.correlationid,
        traceparent=event.traceparent,
        principal=event.principal,
    )
    await uow.jobs.add(
        Job(
            id=event.key,
            project=event.project,
            dataset=data.dataset,
            uri=data.uri,
            mode=data.mode,
            format=data.format or "files",
            urls=data.urls or (),
            message=data.message,
            lineage=data.lineage.model_dump(mode="json", exclude_none=True),
            cause=cause,
            reason="waiting for a worker",
            created_at=clock.now(),
            updated_at=clock.now(),
        )
    )


async def look_at_zones(world: World) -> None:
    """Make jobs of finished batches that no job has taken in: a lost event only delays.

    Raises:
        MillraceError: the first zone's failure, after all others were looked at.
    """
    failures: list[MillraceError] = []
    for zone in world.zones:
        try:
            await _look_at(zone, world)
        except MillraceError as error:
            log.warning("a landing zone cannot be looked at", zone=zone.place.uri, reason=error.message)
            failures.append(error)
    if failures:
        raise failures[0]


async def _look_at(zone: Zone, world: World) -> None:
    for batch in await world.places.batches(zone.place, limit=world.limits.batches):
        if not await _taken(zone, batch, world):
            await _take(zone, batch, world)


async def _taken(zone: Zone, batch: Batch, world: World) -> bool:
    """Return whether a job has read this very batch, or may be about to."""
    uri = batch.place.uri
    where = {"project": zone.project, "dataset": zone.dataset, "uri": (uri, uri.removesuffix("/"))}
    jobs = await world.jobs.find(where)
    return any(job.mark == batch.mark or job.state not in ENDED for job in jobs)


async def _take(zone: Zone, batch: Batch, world: World) -> None:
    digest = blake3(f"{zone.project}\n{zone.dataset}\n{batch.place.uri}\n{batch.mark}".encode()).hexdigest()
    job = Job(
        id=f"zone-{digest[:40]}",
        project=zone.project,
        dataset=zone.dataset,
        uri=batch.place.uri,
        mode=zone.mode,
        origin="zone",
        cause=Cause(correlation=f"zone-{digest[:40]}", principal="ingest"),
        reason="found in a landing zone; waiting for a worker",
        created_at=world.clock.now(),
        updated_at=world.clock.now(),
    )
    if await world.jobs.add(job):
        log.info("a finished batch was found without an event", job=job.id, dataset=job.dataset)
        world.kick()
