"""Deployments, and the traffic that is watched for drift."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.render import new_router, page
from catalog.console.session import Api
from millrace.errors import MillraceError

router = new_router()


@router.get("/deployments", response_class=HTMLResponse)
async def deployments(request: Request, api: Api) -> HTMLResponse:
    """Show what should serve, and what does."""
    wanted, observed = await asyncio.gather(api.items("/v1/deployments"), api.items("/v1/endpoints"))
    endpoints = {endpoint["name"]: endpoint for endpoint in observed}
    return page(request, "deployments.html", here="deployments", deployments=wanted, endpoints=endpoints)


@router.get("/drift", response_class=HTMLResponse)
async def drift(request: Request, api: Api) -> HTMLResponse:
    """Show the windows of every deployment, the incidents, and the label queues."""
    wanted, incidents, queues = await asyncio.gather(
        api.items("/v1/deployments"), api.items("/v1/drift/incidents"), api.items("/v1/labels/queues")
    )
    watches = await asyncio.gather(*(_watch(api, deployment["name"]) for deployment in wanted))
    return page(
        request,
        "drift.html",
        here="drift",
        watches=[watch for watch in watches if watch],
        incidents=incidents,
        queues=queues,
    )


async def _watch(api: ConsoleApi, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await api.get(f"/v1/drift/deployments/{name}")
    except MillraceError:
        return None
    return found


@router.get("/data/drift/{name}")
async def drift_series(api: Api, name: str) -> dict[str, Any]:
    """Return a deployment's windows as a series: number, largest effect of any test, and whether each alerted."""
    watch = await api.get(f"/v1/drift/deployments/{name}")
    windows = sorted(watch.get("windows", []), key=lambda window: window["closed_at"])
    return {
        "numbers": list(range(1, len(windows) + 1)),
        "scores": [max((abs(one["effect"]) for one in window["statistics"]), default=None) for window in windows],
        "alerts": [window["alert"] for window in windows],
    }
