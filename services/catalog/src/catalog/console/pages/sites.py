"""Sites near the GPUs: their room, what lies there and who holds it, and adding, draining and removing them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.pages.cache import ENTRIES, PinField, any_busy, let_go, present, put_pin, take_pin
from catalog.console.paths import EntryField, Name, NameField, v1
from catalog.console.render import new_router, page
from catalog.console.rights import rights_of
from catalog.console.session import Api
from millrace.errors import Unavailable

router = new_router()

GB = 1_000_000_000
SiteField = Annotated[str, Form(max_length=1_024, min_length=2)]
Amount = Annotated[float, Form(gt=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Form(gt=0, lt=2**62)]


@router.get("/sites", response_class=HTMLResponse)
async def sites(request: Request, api: Api) -> HTMLResponse:
    """Show the sites."""
    return page(request, "sites.html", here="sites", **await _sites(api))


@router.get("/fragments/sites", response_class=HTMLResponse)
async def sites_fragment(request: Request, api: Api) -> HTMLResponse:
    """Return the sites, for the page that is open."""
    return page(request, "fragments/sites.html", **await _sites(api))


@router.post("/sites", response_class=HTMLResponse)
async def add(
    request: Request,
    api: Api,
    *,
    site: NameField,
    path: SiteField,
    gigabytes: Amount,
    inodes: Count,
) -> HTMLResponse:
    """Add a site, or change its size."""
    body = {"path": path.strip(), "capacity_bytes": int(gigabytes * GB), "capacity_inodes": inodes}
    await api.put(v1("cache", "sites", site), body)
    return await sites_fragment(request, api)


@router.post("/sites/{name}/drain", response_class=HTMLResponse)
async def drain(request: Request, api: Api, name: Name) -> HTMLResponse:
    """Let nothing new come to a site, and let everything leave it that nobody holds."""
    await api.put(v1("cache", "sites", name, "drain"), {})
    return await sites_fragment(request, api)


@router.post("/sites/{name}/use", response_class=HTMLResponse)
async def use(request: Request, api: Api, name: Name) -> HTMLResponse:
    """Use a drained site again."""
    await api.delete(v1("cache", "sites", name, "drain"))
    return await sites_fragment(request, api)


@router.post("/sites/{name}/remove", response_class=HTMLResponse)
async def remove(request: Request, api: Api, name: Name) -> HTMLResponse:
    """Forget an empty site; its folder stays."""
    await api.delete(v1("cache", "sites", name))
    return await sites_fragment(request, api)


@router.post("/sites/{name}/clear", response_class=HTMLResponse)
async def clear(request: Request, api: Api, name: Name, entry: EntryField) -> HTMLResponse:  # noqa: ARG001 - the route's
    """Clear a copy from a site."""
    await let_go(api, entry)
    return await sites_fragment(request, api)


@router.post("/sites/{name}/pin", response_class=HTMLResponse)
async def pin(request: Request, api: Api, name: Name, entry: EntryField) -> HTMLResponse:  # noqa: ARG001 - the route's
    """Keep a copy whatever happens."""
    await put_pin(api, entry)
    return await sites_fragment(request, api)


@router.post("/sites/{name}/unpin", response_class=HTMLResponse)
async def unpin(
    request: Request,
    api: Api,
    name: Name,  # noqa: ARG001 - the route's
    entry: EntryField,
    pin_name: PinField,
) -> HTMLResponse:
    """Let a copy go again."""
    await take_pin(api, entry, pin_name)
    return await sites_fragment(request, api)


@router.get("/fragments/copies/{entry}", response_class=HTMLResponse)
async def why(request: Request, api: Api, entry: str) -> HTMLResponse:
    """Say why a copy is as it is, and when it would leave."""
    return page(request, "fragments/why.html", why=await api.get(v1("cache", "entries", entry, "why")))


async def _sites(api: ConsoleApi) -> dict[str, Any]:
    """Return the sites with the project's copies there; `away` says that the cache manager does not answer."""
    rights = await rights_of(api)
    try:
        found = await api.get("/v1/cache/sites")
    except Unavailable as error:
        return {"away": error.message, "sites": [], "entries": {}, "busy": False, "rights": rights}
    listed, quotas = await asyncio.gather(api.items("/v1/cache/entries", limit=ENTRIES), api.items("/v1/cache/quotas"))
    by_site: dict[str, list[dict[str, Any]]] = {}
    for entry in present(listed):
        by_site.setdefault(entry["site"], []).append(entry)
    return {
        "away": None,
        "sites": found["items"],
        "entries": by_site,
        "quotas": [quota for quota in quotas if quota["limit_bytes"] is not None],
        "busy": any_busy(listed),
        "rights": rights,
    }
