"""Looking for what a projection missed: reports in the log that it does not reflect, and gaps in the log itself."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any, Protocol

from catalog.application.ports import Documents, Transact, Unit
from catalog.application.projections.deployments import project_deployment
from catalog.application.projections.receive import DEPLOYMENT_TYPES
from catalog.application.projections.runs import KINDS, project_run
from catalog.domain.records import LogRow
from millrace.clock import Clock
from millrace.events import AnyEvent, decode

SETTLING = timedelta(seconds=30)
"""How old a report must be before its absence from a projection counts."""
MAX_OPEN = 500
MAX_ROWS = 1_000
RUN_TYPES = tuple(sorted(kind.TYPE for kind in KINDS))


class Projection(Protocol):
    """Applies one event; repeating it changes nothing."""

    async def __call__(self, event: AnyEvent, *, uow: Unit) -> None:
        """Apply `event` in a transaction."""


async def repair(documents: Documents, transact: Transact, clock: Clock) -> list[str]:
    """Apply logged reports to open runs and unsettled deployments again; return aggregates with gaps in the log."""
    gaps: list[str] = []
    for run in await documents.runs.find({"state": ("requested", "queued", "running")}, limit=MAX_OPEN):
        where: dict[str, Any] = {"project": run.project, "subject": run.id, "type": RUN_TYPES}
        rows = await _settled(where, documents, clock)
        if _lacks(rows):
            gaps.append(f"run:{run.id}")
        if any(row.sequence > run.sequence for row in rows):
            await _again(rows, project_run, transact)
    for deployment in await documents.deployments.find({}, limit=MAX_OPEN):
        if deployment.settled:
            continue
        where = {"project": deployment.project, "subject": deployment.name, "type": tuple(sorted(DEPLOYMENT_TYPES))}
        await _again(await _settled(where, documents, clock), project_deployment, transact)
    return gaps


async def _settled(where: dict[str, Any], documents: Documents, clock: Clock) -> list[LogRow]:
    rows = await documents.log.find(where, order="position", after=0, limit=MAX_ROWS)
    late = clock.now() - SETTLING
    return sorted((row for row in rows if row.at < late), key=lambda row: row.sequence)


def _lacks(rows: list[LogRow]) -> bool:
    """Return whether the sequence numbers of one source leave one out."""
    return any(later.sequence > earlier.sequence + 1 for earlier, later in pairwise(rows))


async def _again(rows: list[LogRow], project: Projection, transact: Transact) -> None:
    events = [decode(row.raw.encode()) for row in rows]

    async def work(uow: Unit) -> None:
        for event in events:
            await project(event, uow=uow)

    if events:
        await transact(work)
