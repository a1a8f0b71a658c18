"""Every event on the bus comes here: kept in the log once, then shown to the projections and the policies."""

from __future__ import annotations

from dataclasses import replace

from catalog.application.policies.documents import POLICY_TYPES
from catalog.application.policies.execute import execute_policies
from catalog.application.ports import Unit
from catalog.application.projections.cache import project_cache
from catalog.application.projections.deployments import project_deployment
from catalog.application.projections.operations import project_ingest, project_landing
from catalog.application.projections.runs import KINDS, project_run
from catalog.domain.records import LogRow
from millrace.clock import Clock
from millrace.events import AnyEvent, encode

OWN_SOURCE = "/millrace/catalog"

CACHE_TYPES = frozenset({"cache.ready", "cache.failed"})
DEPLOYMENT_TYPES = frozenset({"deployment.ready", "deployment.failed", "deployment.rolled_back", "deployment.retired"})
INGEST_TYPES = frozenset({"ingest.started", "ingest.completed", "ingest.failed"})


def log_row(event: AnyEvent, *, delivered: bool) -> LogRow:
    """Return the log row of an event; it is due for policies if its type is one that they act on."""
    return LogRow(
        id=event.key,
        project=event.project,
        type=event.type,
        subject=event.subject,
        source=event.source,
        sequence=event.sequence,
        correlation=event.correlationid,
        causation=event.causationid,
        at=event.time,
        raw=encode(event).decode(),
        policies="due" if event.type in POLICY_TYPES else "done",
        delivered=delivered,
    )


async def receive(event: AnyEvent, *, uow: Unit, clock: Clock) -> None:
    """Log the event, let the projections learn from it, and run the policies that are due for it."""
    row = await uow.log.get(event.key)
    if row is None:
        row = log_row(event, delivered=True)
        await uow.log.add(row)
    elif not row.delivered:
        row = await uow.log.save(replace(row, delivered=True))
    await _project(event, uow, clock)
    await execute_policies(row, uow=uow, clock=clock)


async def _project(event: AnyEvent, uow: Unit, clock: Clock) -> None:
    if type(event.data) in KINDS:
        await project_run(event, uow=uow)
    elif event.type in DEPLOYMENT_TYPES:
        await project_deployment(event, uow=uow)
    elif event.type in CACHE_TYPES:
        await project_cache(event, uow=uow)
    elif event.type in INGEST_TYPES:
        await project_ingest(event, uow=uow, clock=clock)
    elif event.type == "data.landed":
        await project_landing(event, OWN_SOURCE, uow=uow, clock=clock)
