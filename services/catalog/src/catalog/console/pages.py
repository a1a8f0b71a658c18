"""The pages. Each asks the API and renders a template; fragments of a page are pages of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from starlette.staticfiles import StaticFiles

from catalog.console.api import ConsoleApi
from catalog.console.format import FILTERS
from catalog.console.session import COOKIE, SESSION_SECONDS, Api, same_origin
from millrace.errors import MillraceError, Unauthenticated
from millrace.events.names import NAME_PATTERN

HERE = Path(__file__).parent
PREFIX = "/console"

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

router = APIRouter(prefix=PREFIX, include_in_schema=False)
templates = Jinja2Templates(HERE / "templates")
templates.env.filters.update(FILTERS)
static = StaticFiles(directory=HERE / "static")

NAVIGATION = (
    ("Overview", "", "overview"),
    ("Datasets", "/datasets", "datasets"),
    ("Runs", "/runs", "runs"),
    ("Models", "/models", "models"),
    ("Deployments", "/deployments", "deployments"),
    ("Drift", "/drift", "drift"),
    ("Events", "/events", "events"),
)


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a template with the headers that every page carries."""
    context |= {"navigation": NAVIGATION, "prefix": PREFIX, "project": request.query_params.get("project", "default")}
    response: HTMLResponse = templates.TemplateResponse(request, template, context, status_code=status)
    response.headers["content-security-policy"] = CSP
    response.headers["referrer-policy"] = "same-origin"
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/login", response_class=HTMLResponse)
async def login_page(request: Request) -> HTMLResponse:
    """Show the sign-in form."""
    return page(request, "login.html", error=None)


@router.post("/login")
async def login(request: Request, token: Annotated[str, Form(max_length=256)]) -> Response:
    """Exchange an API token for a session cookie."""
    same_origin(request)
    try:
        session = await ConsoleApi(request.app, token.strip(), project="default").post("/v1/tokens/session", {})
    except MillraceError as error:
        return page(request, "login.html", status=error.status, error=error.message)
    response = RedirectResponse(PREFIX, status_code=303)
    response.set_cookie(
        COOKIE,
        session["token"],
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=PREFIX,
    )
    return response


@router.post("/logout")
async def logout(api: Api) -> Response:
    """End the session, here and on the server."""
    await api.delete("/v1/tokens/session")
    response = RedirectResponse(f"{PREFIX}/login", status_code=303)
    response.delete_cookie(COOKIE, path=PREFIX)
    return response


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


@router.get("/datasets", response_class=HTMLResponse)
async def datasets(request: Request, api: Api) -> HTMLResponse:
    """List the datasets with their heads."""
    found = await api.items("/v1/datasets")
    heads = await asyncio.gather(*(_head(api, dataset) for dataset in found))
    return page(request, "datasets.html", here="datasets", datasets=list(zip(found, heads, strict=True)))


async def _head(api: ConsoleApi, dataset: dict[str, Any]) -> dict[str, Any] | None:
    if dataset["head"] is None:
        return None
    found: dict[str, Any] = await api.get(f"/v1/datasets/{dataset['name']}/versions/{dataset['head']['version']}")
    return found


@router.get("/datasets/{name}", response_class=HTMLResponse)
async def dataset(request: Request, api: Api, name: str) -> HTMLResponse:
    """Show a dataset's versions, and where each is cached."""
    found, context = await asyncio.gather(api.get(f"/v1/datasets/{name}"), _cache_of(api, name))
    return page(request, "dataset.html", here="datasets", dataset=found, **context)


@router.get("/fragments/datasets/{name}/cache", response_class=HTMLResponse)
async def cache_fragment(request: Request, api: Api, name: str) -> HTMLResponse:
    """Return the versions with their bars, for the page that is open."""
    return page(request, "fragments/cache.html", dataset={"name": name}, **await _cache_of(api, name))


async def _cache_of(api: ConsoleApi, name: str) -> dict[str, Any]:
    versions, sites, entries = await asyncio.gather(
        api.items(f"/v1/datasets/{name}/versions"),
        api.items("/v1/cache/sites"),
        api.items("/v1/cache/entries", dataset=name),
    )
    by_place = {(entry["commit"], entry["site"]): entry for entry in entries if entry.get("dataset") == name}
    busy = any(entry["state"] not in {"READY", "FAILED", "ABSENT"} for entry in by_place.values())
    return {"versions": versions, "sites": sites, "entries": by_place, "busy": busy}


@router.post("/datasets/{name}/cache", response_class=HTMLResponse)
async def cache(
    request: Request,
    api: Api,
    name: str,
    site: Annotated[str, Form(pattern=NAME_PATTERN)],
    version: Annotated[int, Form(ge=1)],
) -> HTMLResponse:
    """Bring a version to a site: the Cache button."""
    await api.post("/v1/cache/entries", {"site": site, "dataset": name, "version": version})
    return await cache_fragment(request, api, name)


@router.post("/datasets/{name}/clear", response_class=HTMLResponse)
async def clear(
    request: Request, api: Api, name: str, entry: Annotated[str, Form(max_length=256, pattern=r"^[A-Za-z0-9._:~-]+$")]
) -> HTMLResponse:
    """Clear a version from a site: the Clear button."""
    await api.delete(f"/v1/cache/entries/{entry}")
    return await cache_fragment(request, api, name)


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


@router.get("/events", response_class=HTMLResponse)
async def events(request: Request, api: Api, correlation: str | None = None) -> HTMLResponse:
    """Show the event log, newest first, or one story in order."""
    order = "oldest" if correlation else "newest"
    found = await _events(api, limit=200, order=order, correlation=correlation)
    operations = [] if correlation else await api.items("/v1/operations", limit=20)
    return page(request, "events.html", here="events", events=found, correlation=correlation, operations=operations)


async def _events(api: ConsoleApi, **params: Any) -> list[dict[str, Any]]:
    return [item["event"] for item in await api.items("/v1/events", **params)]


async def show_error(request: Request, error: MillraceError) -> Response:
    """Show an error as a page of the console, or the sign-in page where that is what is missing."""
    if isinstance(error, Unauthenticated):
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"hx-redirect": f"{PREFIX}/login"})
        return RedirectResponse(f"{PREFIX}/login", status_code=303)
    return page(request, "error.html", status=error.status, here="", error=error)
