"""/v1/datasets/…/checks: what every version of a dataset must hold."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from catalog.application.caller import Caller
from catalog.application.checking import checks_of, failure_view, get_checks, set_checks, try_checks
from catalog.application.versions import find_dataset, find_version
from catalog.entrypoints.bodies import ChecksBody
from catalog.entrypoints.dependencies import Here, Name, may
from millrace.checks import Checks
from millrace.checks.document import checks_from

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Reader = Annotated[Caller, Depends(may("datasets:read"))]
Demander = Annotated[Caller, Depends(may("datasets:demand"))]
Ref = Annotated[str, Path(max_length=64, description="a number, a commit or a prefix of one, or `latest`")]


def _view(checks: Checks) -> dict[str, Any]:
    return {"checks": [], **checks.document, "digest": checks.digest}


@router.get("/{name}/checks")
async def get_dataset_checks(name: Name, caller: Reader, catalog: Here) -> dict[str, Any]:
    """Return what every version of the dataset must hold."""
    return _view(await get_checks(name, caller, documents=catalog.documents))


@router.put("/{name}/checks")
async def put_dataset_checks(name: Name, body: ChecksBody, caller: Demander, catalog: Here) -> dict[str, Any]:
    """Demand these checks of every version to come; an empty list demands nothing."""
    return _view(await catalog.in_unit(set_checks, name, body.model_dump(), caller))


@router.post("/{name}/versions/{ref}/checks")
async def post_version_checks(
    name: Name, ref: Ref, caller: Reader, catalog: Here, body: ChecksBody | None = None
) -> dict[str, Any]:
    """Say what a version fails of these checks, or without any of the dataset's own; programs are not run."""
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    if body is not None:
        checks = checks_from(body.model_dump())
    else:
        checks = checks_of(await find_dataset(caller.project, name, documents=catalog.documents))
    found = await try_checks(version, checks, checker=catalog.checker)
    return {"passed": not found, "digest": checks.digest, "failures": [failure_view(failure) for failure in found]}
