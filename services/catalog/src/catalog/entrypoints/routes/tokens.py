"""/v1/tokens: who may come in."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse, Response

from catalog.application.tokens import (
    IssueToken,
    close_session,
    find_principal,
    issue_token,
    list_tokens,
    open_session,
    revoke_token,
)
from catalog.entrypoints.bodies import IntrospectBody, TokenBody
from catalog.entrypoints.dependencies import Here
from millrace.auth import Principal, introspection
from millrace.errors import Unauthenticated
from millrace.http import ProjectName, authenticated, requires, requires_platform

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
Keeper = Annotated[Principal, Depends(requires("tokens:write"))]
Asker = Annotated[Principal, Depends(requires_platform("tokens:introspect"))]


async def signed_in(principal: Annotated[Principal, Depends(authenticated)]) -> Principal:
    """Let everybody pass who is somebody: what follows concerns only themselves."""
    return principal


signed_in.action = "self"  # type: ignore[attr-defined]
Myself = Annotated[Principal, Depends(signed_in)]


@router.post("", status_code=201)
async def post_token(body: TokenBody, maker: Keeper, catalog: Here, project: ProjectName = "default") -> JSONResponse:
    """Make a token and show it, once. It is never stronger than its maker."""
    cmd = IssueToken(
        principal=body.principal,
        kind=body.kind,
        project=body.project or project,
        roles=tuple(body.roles),
        scopes=None if body.scopes is None else tuple(body.scopes),
        description=body.description,
        lifetime=timedelta(days=body.days) if body.days else None,
    )
    made = await catalog.in_unit(
        issue_token, cmd, maker, environment=catalog.environment, pepper=catalog.pepper, clock=catalog.clock
    )
    return JSONResponse(made, status_code=201, headers={"cache-control": "no-store"})


@router.post("/session", status_code=201)
async def post_session(me: Myself, catalog: Here) -> JSONResponse:
    """Make a token for the same principal that lasts twelve hours: what the console keeps instead of the caller's."""
    made = await catalog.in_unit(
        open_session, me, environment=catalog.environment, pepper=catalog.pepper, clock=catalog.clock
    )
    return JSONResponse(made, status_code=201, headers={"cache-control": "no-store"})


@router.delete("/session", status_code=204)
async def delete_session(me: Myself, catalog: Here) -> Response:
    """Revoke the session that this request came with: signing out."""
    await catalog.in_unit(close_session, me, clock=catalog.clock)
    catalog.forget_tokens()
    return Response(status_code=204)


@router.get("/self")
async def get_self(me: Myself) -> dict[str, Any]:
    """Return who the caller is and what it may do."""
    return {**introspection(me), "actions": sorted(me.actions)}


@router.get("")
async def get_tokens(keeper: Keeper, catalog: Here, project: ProjectName = "default") -> dict[str, Any]:
    """List tokens, without their secrets."""
    return {"items": await list_tokens(keeper, project, documents=catalog.documents), "next": None}


@router.delete("/{token}", status_code=204)
async def delete_token(token: TokenId, keeper: Keeper, catalog: Here) -> Response:
    """Revoke a token; everywhere within 30 s."""
    await catalog.in_unit(revoke_token, token, keeper, clock=catalog.clock)
    catalog.forget_tokens()
    return Response(status_code=204)


@router.post("/introspect")
async def introspect(body: IntrospectBody, _: Asker, catalog: Here) -> JSONResponse:
    """Say to a service whose token it was shown: `{active, principal, …}`."""
    try:
        principal = await find_principal(
            body.token, documents=catalog.documents, pepper=catalog.pepper, now=catalog.clock.now()
        )
    except Unauthenticated:
        return JSONResponse({"active": False}, headers={"cache-control": "no-store"})
    return JSONResponse(introspection(principal), headers={"cache-control": "no-store"})
