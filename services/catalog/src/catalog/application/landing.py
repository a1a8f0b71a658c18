"""Events from outside systems: accepted once per (source, id), wrapped in our envelope, followed as operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b

from catalog.application.caller import Caller
from catalog.application.ports import Documents, Unit
from catalog.domain.operations import Operation, combined
from catalog.errors import OperationNotFound
from millrace.clock import Clock
from millrace.events import DataLanded
from millrace.failpoints import fp

BATCH_TYPE = "batch"


@dataclass(frozen=True)
class Landing:
    """A `data.landed` as an outside system sent it."""

    source: str
    id: str
    data: DataLanded


def operation_id(project: str, source: str, event_id: str) -> str:
    """Return the id that makes the same outside event the same operation."""
    text = "\n".join((project, source, event_id)).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).hexdigest()


async def accept_landing(landing: Landing, caller: Caller, *, uow: Unit, clock: Clock) -> Operation:
    """Record the operation and announce the landing; a repeat finds the operation that exists."""
    operation = operation_id(caller.project, landing.source, landing.id)
    known = await uow.operations.get(operation)
    if known is not None:
        return known
    event = uow.emit(
        landing.data,
        project=caller.project,
        subject=operation,
        sequence=1,
        principal=caller.principal,
        correlation=caller.correlation,
    )
    accepted = Operation(
        id=operation,
        project=caller.project,
        source=landing.source,
        external_id=landing.id,
        event=event.id,
        type=landing.data.TYPE,
        dataset=landing.data.dataset,
        created_at=clock.now(),
        updated_at=clock.now(),
    )
    await uow.operations.add(accepted)
    detail = {"source": landing.source, "id": landing.id, "uri": landing.data.uri, "event": event.id}
    uow.audit(caller.principal, "event.accept", f"operation:{operation}", caller.project, detail)
    return accepted


async def accept_landings(landings: list[Landing], caller: Caller, *, uow: Unit, clock: Clock) -> Operation:
    """Accept events, all or none. Several are followed as one operation that has the others as children."""
    await fp("webhook.W2.before")
    accepted = [await accept_landing(landing, caller, uow=uow, clock=clock) for landing in landings]
    if len(accepted) == 1:
        return accepted[0]
    children = tuple(dict.fromkeys(operation.id for operation in accepted))
    batch_id = operation_id(caller.project, BATCH_TYPE, "\n".join(children))
    batch = await uow.operations.get(batch_id)
    if batch is None:
        batch = _batch(batch_id, children, caller, clock.now())
        await uow.operations.add(batch)
    return batch


def _batch(batch_id: str, children: tuple[str, ...], caller: Caller, now: datetime) -> Operation:
    return Operation(
        id=batch_id,
        project=caller.project,
        reason=f"{len(children)} events",
        source=BATCH_TYPE,
        external_id=batch_id,
        event="",
        type=BATCH_TYPE,
        dataset="",
        children=children,
        created_at=now,
        updated_at=now,
    )


async def find_operation(project: str, operation: str, *, documents: Documents) -> tuple[Operation, list[Operation]]:
    """Return an operation and its children; a batch's state is theirs combined.

    Raises:
        OperationNotFound: there is none of that id in the project.
    """
    found = await documents.operations.get(operation)
    if found is None or found.project != project:
        raise OperationNotFound(f"no operation {operation[:64]!r}")
    if not found.children:
        return found, []
    children = await documents.operations.find({"id": found.children, "project": project}, limit=len(found.children))
    ended = sum(child.state in ("completed", "failed") for child in children)
    state = combined([child.state for child in children])
    return replace(found, state=state, reason=f"{ended} of {len(children)} events have ended"), children
