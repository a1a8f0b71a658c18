"""What waits and why, what just happened, and the event log."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.render import new_router, page
from catalog.console.session import Api

router = new_router()


@router.get("", response_class=HTMLResponse)
async def overview(request: Request, api: Api) -> HTMLResponse:
    """Show what waits and why, and what just happened."""
    waiting, events, deployments, sites = await asyncio.gather(
        api.items("/v1/waiting"),
        _events(api, limit=12, order="newest"),
        api.items("/v1/deployments"),
        api.items("/v1/cache/sites"),
    )
    return page(
        request,
        "overview.html",
        here="overview",
        waiting=waiting,
        events=events,
        deployments=deployments,
        sites=sites,
    )


@router.get("/fragments/waiting", response_class=HTMLResponse)
async def waiting_fragment(request: Request, api: Api) -> HTMLResponse:
    """Return what waits, for the page that is open."""
    return page(request, "fragments/waiting.html", waiting=await api.items("/v1/waiting"))


@router.get("/events", response_class=HTMLResponse)
async def events(request: Request, api: Api, correlation: str | None = None) -> HTMLResponse:
    """Show the event log, newest first, or one story in order."""
    order = "oldest" if correlation else "newest"
    found = await _events(api, limit=200, order=order, correlation=correlation)
    operations = [] if correlation else await api.items("/v1/operations", limit=20)
    return page(request, "events.html", here="events", events=found, correlation=correlation, operations=operations)


async def _events(api: ConsoleApi, **params: Any) -> list[dict[str, Any]]:
    return [item["event"] for item in await api.items("/v1/events", **params)]
