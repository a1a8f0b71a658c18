"""Copies of versions near the GPUs: one click to cache, clear, pin and unpin, and how far each is."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.paths import After, EntryField, Name, NameField, v1
from catalog.console.render import new_router, page
from catalog.console.session import Api

router = new_router()

SETTLED = frozenset({"READY", "FAILED", "ABSENT", "TRASHED"})
GONE = frozenset({"ABSENT", "TRASHED"})
PIN = "console"
"""The pin that the button sets; others are made, with names and reasons, by `millrace cache pin`."""

VERSIONS = 50
ENTRIES = 1_000


async def copies_of(api: ConsoleApi, name: str) -> dict[str, Any]:
    """Return the sites and a dataset's copies there by (commit, site); nothing while the cache manager is away."""
    sites, entries = await asyncio.gather(
        api.items("/v1/cache/sites"), api.items("/v1/cache/entries", dataset=name, limit=ENTRIES)
    )
    by_place = {(entry["commit"], entry["site"]): entry for entry in entries if entry["state"] not in GONE}
    return {"sites": sites, "entries": by_place, "busy": any(is_busy(entry) for entry in entries)}


def is_busy(entry: dict[str, Any]) -> bool:
    """Return whether a copy is on its way somewhere."""
    return entry["state"] not in SETTLED or (entry["state"] == "READY" and entry["desired"] == "absent")


@router.post("/datasets/{name}/cache", response_class=HTMLResponse)
async def cache(
    request: Request, api: Api, name: Name, site: NameField, version: Annotated[int, Form(ge=1, lt=2**31)]
) -> HTMLResponse:
    """Bring a version to a site: the Cache button."""
    await api.post("/v1/cache/entries", {"site": site, "dataset": name, "version": version})
    return await _versions(request, api, name)


@router.post("/datasets/{name}/clear", response_class=HTMLResponse)
async def clear(request: Request, api: Api, name: Name, entry: EntryField) -> HTMLResponse:
    """Clear a version from a site: the Clear button."""
    await api.delete(v1("cache", "entries", entry))
    return await _versions(request, api, name)


@router.post("/datasets/{name}/pin", response_class=HTMLResponse)
async def pin(request: Request, api: Api, name: Name, entry: EntryField) -> HTMLResponse:
    """Keep a copy whatever happens: the Pin button."""
    await put_pin(api, entry)
    return await _versions(request, api, name)


@router.post("/datasets/{name}/unpin", response_class=HTMLResponse)
async def unpin(
    request: Request, api: Api, name: Name, entry: EntryField, pin_name: Annotated[str, Form(alias="pin")]
) -> HTMLResponse:
    """Let a copy go again: the Unpin button."""
    await api.delete(v1("cache", "entries", entry, "pins", pin_name))
    return await _versions(request, api, name)


async def put_pin(api: ConsoleApi, entry: str) -> None:
    """Set the console's pin on a copy."""
    await api.put(v1("cache", "entries", entry, "pins", PIN), {"reason": "pinned in the console"})


async def versions_with_copies(api: ConsoleApi, name: str, after: str | None = None) -> dict[str, Any]:
    """Return a page of versions, newest first, with the sites and the copies there."""
    found, copies = await asyncio.gather(
        api.get(v1("datasets", name, "versions"), limit=VERSIONS, after=after), copies_of(api, name)
    )
    return {"versions": found["items"], "older": found["next"], "after": after, **copies}


@router.get("/fragments/datasets/{name}/versions", response_class=HTMLResponse)
async def versions_fragment(request: Request, api: Api, name: Name, after: After = None) -> HTMLResponse:
    """Return the versions with their bars, for the page that is open."""
    return await _versions(request, api, name, after)


async def _versions(request: Request, api: Api, name: str, after: str | None = None) -> HTMLResponse:
    context = await versions_with_copies(api, name, after)
    return page(request, "fragments/versions.html", dataset={"name": name}, **context)
