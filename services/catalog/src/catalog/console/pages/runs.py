"""Runs, and the models that they made."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.render import new_router, page
from catalog.console.session import Api

router = new_router()


@router.get("/runs", response_class=HTMLResponse)
async def runs(request: Request, api: Api) -> HTMLResponse:
    """List the runs, newest first."""
    return page(request, "runs.html", here="runs", runs=await api.items("/v1/runs"))


@router.get("/runs/{run}", response_class=HTMLResponse)
async def run_page(request: Request, api: Api, run: str) -> HTMLResponse:
    """Show one run: stages, live curves, log tail, inputs, results."""
    return page(request, "run.html", here="runs", **await _run(api, run))


@router.get("/fragments/runs/{run}", response_class=HTMLResponse)
async def run_fragment(request: Request, api: Api, run: str) -> HTMLResponse:
    """Return a run's state, stages and log tail, for the page that is open."""
    return page(request, "fragments/run.html", **await _run(api, run))


async def _run(api: ConsoleApi, run: str) -> dict[str, Any]:
    logs = api.items(f"/v1/runs/{run}/logs", limit=200, tail="true")
    found, lines = await asyncio.gather(api.get(f"/v1/runs/{run}"), logs)
    return {"run": found, "logs": lines}


@router.get("/data/runs/{run}/metrics")
async def run_metrics(api: Api, run: str) -> dict[str, Any]:
    """Return a run's curves: key → {steps, values}."""
    points = await api.items(f"/v1/runs/{run}/metrics", limit=2_000)
    curves: dict[str, dict[str, list[float]]] = {}
    for point in sorted(points, key=lambda item: item["step"]):
        curve = curves.setdefault(point["key"], {"steps": [], "values": []})
        curve["steps"].append(point["step"])
        curve["values"].append(point["value"])
    return curves


@router.get("/models", response_class=HTMLResponse)
async def models(request: Request, api: Api) -> HTMLResponse:
    """List the models with their versions."""
    found = await api.items("/v1/models")
    versions = await asyncio.gather(*(api.items(f"/v1/models/{model['name']}/versions") for model in found))
    return page(request, "models.html", here="models", models=list(zip(found, versions, strict=True)))
