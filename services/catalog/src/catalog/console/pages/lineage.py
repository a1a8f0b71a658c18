"""Where a thing came from, and what came of it: one step at a time, both ways."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from catalog.console.pages.versions import crumbs
from catalog.console.paths import Name, Ref, v1, version_path
from catalog.console.render import PREFIX, new_router, page
from catalog.console.session import Api
from millrace.errors import MillraceError

router = new_router()

Node = Annotated[str, Query(max_length=300, min_length=3)]


@router.get("/datasets/{name}/versions/{ref}/lineage", response_class=HTMLResponse)
async def version_lineage(request: Request, api: Api, name: Name, ref: Ref) -> HTMLResponse:
    """Show the lineage of a version: what it was made from, and what was made of it."""
    version = await api.get(version_path(name, ref))
    node = f"dataset:{name}@{version['version']}"
    found = await api.get("/v1/lineage", node=node)
    context = {"version": version, "crumbs": crumbs(""), "job": await _job(api, version)}
    return page(request, "lineage.html", here="datasets", **context, **_shown(node, found))


@router.get("/lineage", response_class=HTMLResponse)
async def lineage(request: Request, api: Api, node: Node) -> HTMLResponse:
    """Show one step around anything that has a lineage."""
    found = await api.get("/v1/lineage", node=node)
    return page(request, "lineage.html", here="datasets", version=None, job=None, **_shown(node, found))


async def _job(api: Api, version: dict[str, Any]) -> dict[str, Any] | None:
    """Return the ingestion job that made a version, if one did and ingest answers."""
    event = version["lineage"].get("event")
    if not event:
        return None
    try:
        found = await api.items("/v1/ingest/jobs", dataset=version["dataset"], limit=100)
    except MillraceError:
        return None
    return next((job for job in found if job["version"] == version["version"]), None)


def _shown(node: str, found: dict[str, Any]) -> dict[str, Any]:
    sources = [(edge["relation"], thing(edge["source"])) for edge in found["upstream"]]
    targets = [(edge["relation"], thing(edge["target"])) for edge in found["downstream"]]
    return {"node": thing(node), "sources": sources, "targets": targets}


def thing(node: str) -> dict[str, str | None]:
    """Return a node as pages show it: its kind, its name, and the page that it has of its own."""
    kind, _, name = node.partition(":")
    return {"node": node, "kind": kind, "name": name, "page": _page(kind, name)}


def _page(kind: str, name: str) -> str | None:
    dataset, _, version = name.partition("@")
    if kind == "dataset" and version:
        return f"{PREFIX}{v1('datasets', dataset, 'versions', version).removeprefix('/v1')}"
    if kind == "run":
        return f"{PREFIX}{v1('runs', name).removeprefix('/v1')}"
    places = {"model": "/models", "deployment": "/deployments", "incident": "/drift", "queue": "/drift"}
    return f"{PREFIX}{places[kind]}" if kind in places else None
