"""What no version needs any more: what would go, letting it go, and how far that is."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.render import new_router, page
from catalog.console.rights import rights_of
from catalog.console.session import Api

router = new_router()


@router.get("/garbage", response_class=HTMLResponse)
async def garbage(request: Request, api: Api) -> HTMLResponse:
    """Show how far the last collection is; what would go is looked up once the page stands, for it lists the lake."""
    rights = await rights_of(api)
    state = await _state(api) if rights.may("datasets:delete") else {"collection": None, "under_way": False}
    return page(request, "garbage.html", here="datasets", rights=rights, **state)


@router.get("/fragments/garbage/plan", response_class=HTMLResponse)
async def plan(request: Request, api: Api) -> HTMLResponse:
    """Return what a collection would take now."""
    found = await api.get("/v1/gc")
    return page(request, "fragments/garbage_plan.html", plan=found["plan"])


@router.get("/fragments/garbage/state", response_class=HTMLResponse)
async def state(request: Request, api: Api) -> HTMLResponse:
    """Return how far the last collection is, for the page that is open."""
    return page(request, "fragments/garbage_state.html", **await _state(api))


@router.post("/garbage/start", response_class=HTMLResponse)
async def start(request: Request, api: Api) -> HTMLResponse:
    """Let what no version needs go."""
    await api.post("/v1/gc", {})
    return await state(request, api)


@router.post("/garbage/stop", response_class=HTMLResponse)
async def stop(request: Request, api: Api) -> HTMLResponse:
    """Spare what is not gone yet."""
    await api.delete("/v1/gc")
    return await state(request, api)


async def _state(api: ConsoleApi) -> dict[str, Any]:
    found = (await api.get("/v1/gc", plan="false"))["collection"]
    return {"collection": found, "under_way": bool(found) and found["state"] not in {"done", "stopped"}}
