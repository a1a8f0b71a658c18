"""/v1/gc: what no version needs, and letting it go."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.collecting import ask_collection, find_garbage, stop_collection
from catalog.entrypoints.dependencies import Here, also, may

router = APIRouter(prefix="/v1/gc", tags=["datasets"])
Remover = Annotated[Caller, Depends(may("datasets:delete"))]
STARTED = also(202, "Asked for; `GET /v1/gc` says how far it is")


@router.get("")
async def get_garbage(
    caller: Remover,
    catalog: Here,
    *,
    plan: Annotated[bool, Query(description="without it nothing is listed: only how far the last one is")] = True,
) -> dict[str, Any]:
    """Say what a collection would take now, without taking it, and how far the last one is."""
    known = await catalog.documents.collections.get(caller.project)
    state = {"collection": views.collection(known)}
    if not plan:
        return state
    cutoff = catalog.clock.now() - catalog.collection_grace
    found = await find_garbage(caller.project, cutoff, documents=catalog.documents, lake=catalog.lake)
    return {"plan": views.garbage(found, cutoff), **state}


@router.post("", status_code=202, responses=STARTED)
async def post_collection(caller: Remover, catalog: Here) -> JSONResponse:
    """Let what no version needs go, once it is older than the grace: condemned now, swept when that is safe."""
    cutoff = catalog.clock.now() - catalog.collection_grace
    made = await catalog.in_unit(ask_collection, caller.project, cutoff, caller.principal, clock=catalog.clock)
    return JSONResponse({"collection": views.collection(made)}, status_code=202)


@router.delete("")
async def delete_collection(caller: Remover, catalog: Here) -> dict[str, Any]:
    """Stop the collection; what is only condemned is spared."""
    ended = await catalog.in_unit(stop_collection, caller.project, caller.principal, clock=catalog.clock)
    return {"collection": views.collection(ended)}
