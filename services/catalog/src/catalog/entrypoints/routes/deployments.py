"""/v1/deployments: what should serve, and what does."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.deployments import find_deployment, put_deployment, retire_deployment
from catalog.application.models import find_model_version
from catalog.entrypoints.bodies import DeploymentBody
from catalog.entrypoints.dependencies import MAY_CREATE, After, Here, Limit, Name, answer, may, page

router = APIRouter(prefix="/v1/deployments", tags=["deployments"])
Reader = Annotated[Caller, Depends(may("deployments:read"))]
Writer = Annotated[Caller, Depends(may("deployments:write"))]


@router.put("/{name}", responses=MAY_CREATE)
async def put(name: Name, body: DeploymentBody, caller: Writer, catalog: Here) -> JSONResponse:
    """Let a deployment want a model version; what it wants already is no new revision."""
    version = await find_model_version(caller.project, body.model, str(body.version), documents=catalog.documents)
    return answer(await catalog.in_unit(put_deployment, name, version, caller, clock=catalog.clock))


@router.get("")
async def list_deployments(caller: Reader, catalog: Here, limit: Limit = 100, after: After = None) -> dict[str, Any]:
    """List the deployments of a project by name."""
    start = f"{caller.project}/{after}" if after else None
    found = await catalog.documents.deployments.find({"project": caller.project}, after=start, limit=limit)
    return page([views.deployment(item) for item in found], limit, found[-1].name if found else None)


@router.get("/{name}")
async def get(name: Name, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return a deployment: desired, observed, and the wishes before."""
    return views.deployment(await find_deployment(caller.project, name, documents=catalog.documents))


@router.delete("/{name}", status_code=202)
async def delete(name: Name, caller: Writer, catalog: Here) -> JSONResponse:
    """Let a deployment want nothing; serving drains and unloads it."""
    return answer(await catalog.in_unit(retire_deployment, name, caller, clock=catalog.clock))
