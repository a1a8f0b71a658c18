"""Operations move on by what ingest reports; events that came straight over the bus get theirs here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from catalog.application.landing import operation_id
from catalog.application.ports import Unit
from catalog.domain.operations import ENDED, Operation, OperationState
from millrace.clock import Clock
from millrace.events import AnyEvent, IngestCompleted, IngestFailed


async def project_landing(event: AnyEvent, own_source: str, *, uow: Unit, clock: Clock) -> None:
    """Follow a `data.landed` that did not come through our HTTP edge as an operation, too."""
    if event.source == own_source:
        return
    operation = operation_id(event.project, event.source, event.id)
    if await uow.operations.get(operation) is None:
        await uow.operations.add(
            Operation(
                id=operation,
                project=event.project,
                source=event.source,
                external_id=event.id,
                event=event.key,
                type=event.type,
                dataset=event.data.dataset,
                created_at=clock.now(),
                updated_at=clock.now(),
            )
        )


async def project_ingest(event: AnyEvent, *, uow: Unit, clock: Clock) -> None:
    """Move the operation of the landed event that ingest works on."""
    landed = event.causationid or event.correlationid
    found = await uow.operations.find({"project": event.project, "event": landed}, limit=1)
    if not found or found[0].state in ENDED:
        return
    state, reason, result = _outcome(event)
    moved = replace(found[0], state=state, reason=reason, result=result, job=event.data.job, updated_at=clock.now())
    await uow.operations.save(moved)


def _outcome(event: AnyEvent) -> tuple[OperationState, str, dict[str, Any]]:
    data = event.data
    if isinstance(data, IngestCompleted):
        result = {"dataset": data.dataset, "version": data.version, "commit": data.commit}
        return "completed", "", {**result, "files": data.files, "bytes": data.bytes}
    if isinstance(data, IngestFailed):
        return "failed", data.reason, {}
    return "running", "ingest reads the data", {}
