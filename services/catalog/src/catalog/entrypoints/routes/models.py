"""/v1/models: versions made by runs, and the aliases that name them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.models import (
    RegisterModel,
    find_model,
    find_model_version,
    name_version,
    register_model,
)
from catalog.domain.models import Model, ModelVersion, PackageFile
from catalog.entrypoints.bodies import AliasBody, ModelVersionBody
from catalog.entrypoints.dependencies import MAY_REPEAT, After, Here, Limit, Name, answer, may, page
from millrace.errors import Invalid

router = APIRouter(prefix="/v1/models", tags=["models"])
Reader = Annotated[Caller, Depends(may("models:read"))]
Registrar = Annotated[Caller, Depends(may("models:write"))]
Promoter = Annotated[Caller, Depends(may("models:promote"))]
Ref = Annotated[str, Path(max_length=64, description="a number, an alias, or `latest`")]


@router.post("/{name}/versions", status_code=201, responses=MAY_REPEAT)
async def post_version(name: Name, body: ModelVersionBody, caller: Registrar, catalog: Here) -> JSONResponse:
    """Register the package that a run made: 201, or 200 if the run registered it before."""
    cmd = RegisterModel(
        model=name,
        run=body.run,
        fence=body.fence,
        digest=body.digest,
        uri=body.uri,
        files=tuple(PackageFile(it.path, it.digest, it.size) for it in body.files),
        framework=body.framework,
        signature=body.signature,
        metrics=body.metrics,
        dataset=body.dataset,
        version=body.version,
        commit=body.commit,
        reference=body.reference,
    )
    reply = await register_model(
        cmd,
        caller,
        documents=catalog.documents,
        transact=catalog.transact,
        lake=catalog.lake,
        clock=catalog.clock,
    )
    return answer(reply)


@router.get("")
async def list_models(caller: Reader, catalog: Here, limit: Limit = 100, after: After = None) -> dict[str, Any]:
    """List the models of a project by name."""
    start = f"{caller.project}/{after}" if after else None
    found = await catalog.documents.models.find({"project": caller.project}, after=start, limit=limit)
    return page([views.model(item) for item in found], limit, found[-1].name if found else None)


@router.get("/{name}")
async def get_model(name: Name, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return a model with its aliases."""
    return views.model(await find_model(caller.project, name, documents=catalog.documents))


@router.get("/{name}/versions")
async def list_versions(
    name: Name, caller: Reader, catalog: Here, limit: Limit = 100, after: After = None
) -> dict[str, Any]:
    """List versions, newest first."""
    model = await find_model(caller.project, name, documents=catalog.documents)
    if after is not None and not (after.isascii() and after.isdecimal() and len(after) < 10):
        raise Invalid("`after` is the `next` of a page of versions")
    found = await catalog.documents.model_versions.find(
        {"project": caller.project, "model": name},
        order="version",
        descending=True,
        after=int(after) if after else None,
        limit=limit,
    )
    return page([_view(item, model) for item in found], limit, str(found[-1].version) if found else None)


@router.get("/{name}/versions/{ref}")
async def get_version(name: Name, ref: Ref, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return one version."""
    model = await find_model(caller.project, name, documents=catalog.documents)
    return _view(await find_model_version(caller.project, name, ref, documents=catalog.documents), model)


@router.put("/{name}/aliases/{alias}")
async def put_alias(name: Name, alias: Name, body: AliasBody, caller: Promoter, catalog: Here) -> JSONResponse:
    """Let an alias name a version."""
    return answer(await catalog.in_unit(name_version, name, alias, str(body.version), caller))


def _view(version: ModelVersion, model: Model) -> dict[str, Any]:
    return views.model_version(version, sorted(name for name, it in model.aliases.items() if it == version.version))
