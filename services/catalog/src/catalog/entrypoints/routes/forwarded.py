"""What the gateway passes on: a static table of prefixes, each to the service that owns it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from catalog.entrypoints.forward import Forwarder
from millrace.auth import Principal
from millrace.http import authenticated

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def known(principal: Annotated[Principal, Depends(authenticated)]) -> Principal:
    """Let everybody pass who is somebody: the owner decides what they may do, by the same token."""
    return principal


known.action = "forwarded"  # type: ignore[attr-defined]


def forwarded_routes(forwarder: Forwarder) -> APIRouter:
    """Return the routes of the forwarding table."""
    router = APIRouter(tags=["forwarded"], include_in_schema=False)
    for prefix in forwarder.prefixes:
        _add(router, forwarder, prefix)
    return router


def _add(router: APIRouter, forwarder: Forwarder, prefix: str) -> None:
    async def forward(request: Request) -> StreamingResponse:
        return await forwarder.forward(request, prefix)

    for path in (prefix, f"{prefix}/{{rest:path}}"):
        router.add_api_route(path, forward, methods=METHODS, dependencies=[Depends(known)], response_model=None)
