"""Operating the platform: dead letters, what waits, the audit trail, lineage, and the check of invariants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.dead_letters import NO_PROJECT, find_dead_letter, replay_dead_letter
from catalog.application.fsck.check import check
from catalog.application.lineage import lineage
from catalog.application.waiting import waiting
from catalog.domain.records import DeadLetter
from catalog.entrypoints.dependencies import After, Here, Limit, may, page
from catalog.errors import DeadLetterNotFound
from millrace.auth import EVERY_PROJECT, Principal
from millrace.http import ProjectName, requires, requires_platform

router = APIRouter(tags=["operations"])
LetterId = Annotated[str, Path(max_length=200)]
Auditor = Annotated[Caller, Depends(may("audit:read"))]
Waiter = Annotated[Caller, Depends(may("waiting:read"))]
Reader = Annotated[Caller, Depends(may("lineage:read"))]
Mender = Annotated[Caller, Depends(may("dlq:write"))]
LetterReader = Annotated[Principal, Depends(requires("dlq:read"))]
LetterMender = Annotated[Principal, Depends(requires("dlq:write"))]
Checker = Annotated[Principal, Depends(requires_platform("fsck:read"))]


def _visible(principal: Principal, project: str) -> tuple[str, ...]:
    """Return whose dead letters are shown: those that name no project only to whom may see every project."""
    return (project, NO_PROJECT) if principal.project == EVERY_PROJECT else (project,)


@router.get("/v1/dlq")
async def list_dead_letters(
    *,
    principal: LetterReader,
    catalog: Here,
    project: ProjectName = "default",
    state: Annotated[Literal["dead", "replayed"] | None, Query()] = None,
    durable: Annotated[str | None, Query(max_length=128)] = None,
    limit: Limit = 100,
    after: After = None,
) -> dict[str, Any]:
    """List messages that consumers could not take."""
    filters = {"state": state, "durable": durable}
    where: dict[str, Any] = {"project": _visible(principal, project)}
    where |= {name: value for name, value in filters.items() if value is not None}
    found = await catalog.documents.dead_letters.find(where, after=after, limit=limit)
    return page([views.dead_letter(item) for item in found], limit, found[-1].id if found else None)


async def _letter(
    letter: LetterId, principal: LetterReader, catalog: Here, project: ProjectName = "default"
) -> DeadLetter:
    found = await find_dead_letter(letter, documents=catalog.documents)
    if found.project not in _visible(principal, project):
        raise DeadLetterNotFound(f"no dead letter {letter[:64]!r}")
    return found


@router.get("/v1/dlq/{letter}")
async def get_dead_letter(found: Annotated[DeadLetter, Depends(_letter)]) -> dict[str, Any]:
    """Return a dead letter with its headers and body."""
    return views.dead_letter(found, body=True)


@router.post("/v1/dlq/{letter}/replay", status_code=202)
async def replay(found: Annotated[DeadLetter, Depends(_letter)], caller: Mender, catalog: Here) -> dict[str, Any]:
    """Send a dead letter again to the consumer that refused it."""
    replayed: dict[str, Any] = await catalog.in_unit(replay_dead_letter, found.id, caller, clock=catalog.clock)
    return replayed


@router.get("/v1/waiting")
async def get_waiting(caller: Waiter, catalog: Here) -> dict[str, Any]:
    """List everything that waits, why, and what would unblock it."""
    return {"items": await waiting(caller.project, documents=catalog.documents), "next": None}


@router.get("/v1/audit")
async def get_audit(
    *,
    caller: Auditor,
    catalog: Here,
    resource: Annotated[str | None, Query(max_length=300)] = None,
    principal: Annotated[str | None, Query(max_length=128)] = None,
    limit: Limit = 100,
    after: After = None,
) -> dict[str, Any]:
    """List changes, newest first, each with its place in the chain."""
    filters = {"resource": resource, "principal": principal}
    where = {"project": caller.project, **{name: value for name, value in filters.items() if value is not None}}
    found = await catalog.documents.trail.find(where, descending=True, after=after, limit=limit)
    return page([views.audit_row(item) for item in found], limit, found[-1].id if found else None)


@router.get("/v1/lineage")
async def get_lineage(
    caller: Reader,
    catalog: Here,
    node: Annotated[str, Query(max_length=300, description="for example `model:digits@1`")],
    direction: Literal["upstream", "downstream", "both"] = "both",
    depth: Annotated[int, Query(ge=1, le=10)] = 1,
) -> dict[str, Any]:
    """Return where a thing came from and what came of it."""
    return await lineage(caller.project, node, direction=direction, depth=depth, documents=catalog.documents)


@router.get("/v1/fsck")
async def fsck(request: Request, _: Checker, catalog: Here, gather: bool = True) -> dict[str, Any]:
    """Check the invariants, here and (unless `gather=false`) in every other service."""
    own = await check(documents=catalog.documents, lake=catalog.lake, clock=catalog.clock)
    if not gather:
        return own
    reports = [own, *await catalog.services.fsck(request.headers["authorization"])]
    violations = [
        {"service": report["service"], **violation} for report in reports for violation in report["violations"]
    ]
    return {
        "service": "catalog",
        "checked": sum(report["checked"] for report in reports),
        "violations": violations,
        "services": reports,
        "clean": not violations,
    }
