"""Copies of versions near the GPUs: one click to cache, clear, pin and unpin, and how far each is.

A site may hold several copies of one version: the whole tree, parts of it, and packs. They are told apart by their ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import Form, Query, Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.paths import After, EntryField, Name, NameField, Ref, v1, version_path
from catalog.console.render import new_router, page
from catalog.console.rights import rights_of
from catalog.console.session import Api
from millrace.patterns import NAME_PATTERN

router = new_router()

SETTLED = frozenset({"READY", "FAILED", "ABSENT", "TRASHED"})
GONE = frozenset({"ABSENT", "TRASHED"})
PIN = "console"
"""The pin that the button sets; others are made, with names and reasons, by `millrace cache pin`."""

VERSIONS = 50
ENTRIES = 1_000
PATTERNS_LENGTH = 33_000
"""As many characters as 64 patterns of the longest kind have."""

PinField = Annotated[str, Form(alias="pin", pattern=NAME_PATTERN)]
AnySite = Annotated[str, Form(pattern=rf"^$|{NAME_PATTERN}")]
Patterns = Annotated[str, Form(max_length=PATTERNS_LENGTH)]
Removed = Annotated[bool, Query()]
Copies = list[dict[str, Any]]


async def copies_of(api: ConsoleApi, name: str) -> dict[str, Any]:
    """Return the sites and a dataset's copies there by (commit, site); nothing while the cache manager is away.

    `entries` are the whole trees, `parts` all other copies.
    """
    sites, found = await asyncio.gather(
        api.items("/v1/cache/sites"), api.items("/v1/cache/entries", dataset=name, limit=ENTRIES)
    )
    parts: dict[tuple[str, str], Copies] = {}
    for entry in present(found):
        if entry["variant"]:
            parts.setdefault((entry["commit"], entry["site"]), []).append(entry)
    whole = {(entry["commit"], entry["site"]): entry for entry in present(found) if not entry["variant"]}
    return {"sites": sites, "entries": whole, "parts": parts, "busy": any_busy(found)}


def present(entries: Iterable[dict[str, Any]]) -> Copies:
    """Return the copies that are somewhere, or on their way."""
    return [entry for entry in entries if entry["state"] not in GONE]


def any_busy(entries: Iterable[dict[str, Any]]) -> bool:
    """Return whether a copy is on its way somewhere."""
    return any(
        entry["state"] not in SETTLED or (entry["state"] == "READY" and entry["desired"] == "absent")
        for entry in entries
    )


async def ask(api: ConsoleApi, name: str, version: int, site: str, *, mode: str = "tree", patterns: str = "") -> None:
    """Ask for a copy; `patterns` has one a line, and an empty `site` is the one where a run would read it soonest."""
    paths = [line.strip() for line in patterns.splitlines() if line.strip()]
    body = {"site": site or None, "dataset": name, "version": version, "mode": mode, "paths": paths}
    await api.post("/v1/cache/entries", body)


async def put_pin(api: ConsoleApi, entry: str) -> None:
    """Set the console's pin on a copy."""
    await api.put(v1("cache", "entries", entry, "pins", PIN), {"reason": "pinned in the console"})


async def take_pin(api: ConsoleApi, entry: str, name: str) -> None:
    """Take a pin off a copy."""
    await api.delete(v1("cache", "entries", entry, "pins", name))


async def let_go(api: ConsoleApi, entry: str) -> None:
    """Clear a copy from its site."""
    await api.delete(v1("cache", "entries", entry))


@router.post("/datasets/{name}/cache", response_class=HTMLResponse)
async def cache(
    request: Request,
    api: Api,
    name: Name,
    *,
    site: NameField,
    version: Annotated[int, Form(ge=1, lt=2**31)],
    after: After = None,
    removed: Removed = False,
) -> HTMLResponse:
    """Bring a version to a site: the Cache button."""
    await ask(api, name, version, site)
    return await _versions(request, api, name, after, removed=removed)


@router.post("/datasets/{name}/clear", response_class=HTMLResponse)
async def clear(
    request: Request, api: Api, name: Name, entry: EntryField, *, after: After = None, removed: Removed = False
) -> HTMLResponse:
    """Clear a copy from its site: the Clear button."""
    await let_go(api, entry)
    return await _versions(request, api, name, after, removed=removed)


@router.post("/datasets/{name}/pin", response_class=HTMLResponse)
async def pin(
    request: Request, api: Api, name: Name, entry: EntryField, *, after: After = None, removed: Removed = False
) -> HTMLResponse:
    """Keep a copy whatever happens: the Pin button."""
    await put_pin(api, entry)
    return await _versions(request, api, name, after, removed=removed)


@router.post("/datasets/{name}/unpin", response_class=HTMLResponse)
async def unpin(
    request: Request,
    api: Api,
    name: Name,
    *,
    entry: EntryField,
    pin_name: PinField,
    after: After = None,
    removed: Removed = False,
) -> HTMLResponse:
    """Let a copy go again: the Unpin button."""
    await take_pin(api, entry, pin_name)
    return await _versions(request, api, name, after, removed=removed)


async def versions_with_copies(
    api: ConsoleApi, name: str, after: str | None = None, *, removed: bool = False
) -> dict[str, Any]:
    """Return a page of versions, newest first, with the sites and the copies there."""
    wanted = {"limit": VERSIONS, "after": after, "removed": "true" if removed else None}
    dataset, found, copies, rights = await asyncio.gather(
        api.get(v1("datasets", name)),
        api.get(v1("datasets", name, "versions"), **wanted),
        copies_of(api, name),
        rights_of(api),
    )
    shown = {"versions": found["items"], "older": found["next"], "after": after, "removed": removed}
    return {"dataset": dataset, **shown, "rights": rights, **copies}


@router.get("/fragments/datasets/{name}/versions", response_class=HTMLResponse)
async def versions_fragment(
    request: Request, api: Api, name: Name, *, after: After = None, removed: Removed = False
) -> HTMLResponse:
    """Return the versions with their bars, for the page that is open."""
    return await _versions(request, api, name, after, removed=removed)


async def _versions(request: Request, api: Api, name: str, after: str | None, *, removed: bool) -> HTMLResponse:
    context = await versions_with_copies(api, name, after, removed=removed)
    return page(request, "fragments/versions.html", **context)


@router.get("/datasets/{name}/versions/{ref}/copies", response_class=HTMLResponse)
async def version_copies(
    request: Request, api: Api, name: Name, ref: Ref, path: Annotated[str, Query(max_length=4_096)] = ""
) -> HTMLResponse:
    """Show every copy of a version, and the form that brings another; `path` is a pattern to begin with."""
    return page(request, "copies.html", here="datasets", pattern=path, **await _copies(api, name, ref))


@router.get("/fragments/datasets/{name}/versions/{ref}/copies", response_class=HTMLResponse)
async def copies_fragment(request: Request, api: Api, name: Name, ref: Ref) -> HTMLResponse:
    """Return the copies of a version, for the page that is open."""
    return page(request, "fragments/copies.html", **await _copies(api, name, ref))


@router.post("/datasets/{name}/versions/{ref}/copies", response_class=HTMLResponse)
async def add_copy(
    request: Request,
    api: Api,
    name: Name,
    ref: Ref,
    *,
    site: AnySite = "",
    mode: Annotated[Literal["tree", "packs"], Form()] = "tree",
    paths: Patterns = "",
) -> HTMLResponse:
    """Bring a version, a part of it, or its packs to a site."""
    version = (await api.get(version_path(name, ref)))["version"]
    await ask(api, name, version, site, mode=mode, patterns=paths)
    return await copies_fragment(request, api, name, ref)


@router.post("/datasets/{name}/versions/{ref}/clear", response_class=HTMLResponse)
async def clear_copy(request: Request, api: Api, name: Name, ref: Ref, entry: EntryField) -> HTMLResponse:
    """Clear one of a version's copies."""
    await let_go(api, entry)
    return await copies_fragment(request, api, name, ref)


@router.post("/datasets/{name}/versions/{ref}/pin", response_class=HTMLResponse)
async def pin_copy(request: Request, api: Api, name: Name, ref: Ref, entry: EntryField) -> HTMLResponse:
    """Keep one of a version's copies whatever happens."""
    await put_pin(api, entry)
    return await copies_fragment(request, api, name, ref)


@router.post("/datasets/{name}/versions/{ref}/unpin", response_class=HTMLResponse)
async def unpin_copy(
    request: Request, api: Api, name: Name, ref: Ref, *, entry: EntryField, pin_name: PinField
) -> HTMLResponse:
    """Let one of a version's copies go again."""
    await take_pin(api, entry, pin_name)
    return await copies_fragment(request, api, name, ref)


async def _copies(api: ConsoleApi, name: str, ref: str) -> dict[str, Any]:
    version, rights = await asyncio.gather(api.get(version_path(name, ref)), rights_of(api))
    sites, found = await asyncio.gather(
        api.items("/v1/cache/sites"),
        api.items("/v1/cache/entries", dataset=name, commit=version["commit"], limit=ENTRIES),
    )
    copies = sorted(present(found), key=lambda entry: (entry["site"], entry["variant"]))
    return {"version": version, "sites": sites, "copies": copies, "rights": rights, "busy": any_busy(found)}
