"""What a dataset demands of every version, and what one version holds of it."""

from __future__ import annotations

import asyncio

from fastapi import Request
from fastapi.responses import HTMLResponse

from catalog.console.paths import Name, Ref, v1, version_path
from catalog.console.render import new_router, page
from catalog.console.session import Api

router = new_router()


@router.get("/datasets/{name}/versions/{ref}/checks", response_class=HTMLResponse)
async def version_checks(request: Request, api: Api, name: Name, ref: Ref) -> HTMLResponse:
    """Show what the dataset demands now, and which checks the version passed when it was committed."""
    version, demanded = await asyncio.gather(api.get(version_path(name, ref)), api.get(v1("datasets", name, "checks")))
    return page(request, "checks.html", here="datasets", version=version, demanded=demanded)


@router.post("/datasets/{name}/versions/{ref}/checks", response_class=HTMLResponse)
async def try_checks(request: Request, api: Api, name: Name, ref: Ref) -> HTMLResponse:
    """Judge the version by what its dataset demands now: the Try button."""
    return page(request, "fragments/verdict.html", verdict=await api.post(version_path(name, ref, "checks"), None))
