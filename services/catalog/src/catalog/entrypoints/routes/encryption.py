"""/v1/encryption: whether a project's datasets are sealed in the lake, and its key for those who may have it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.encryption import encrypt_project, hand_out
from catalog.entrypoints.dependencies import MAY_CREATE, Here, answer, may

router = APIRouter(prefix="/v1/encryption", tags=["datasets"])
Reader = Annotated[Caller, Depends(may("datasets:read"))]
Holder = Annotated[Caller, Depends(may("datasets:key"))]
Encrypter = Annotated[Caller, Depends(may("datasets:encrypt"))]


@router.get("")
async def get_encryption(caller: Reader, catalog: Here) -> dict[str, Any]:
    """Say whether the project is encrypted; `settled`: that can no longer change. The key is not shown."""
    return views.encryption(caller.project, await catalog.documents.encryptions.get(caller.project))


@router.put("", responses=MAY_CREATE)
async def put_encryption(caller: Encrypter, catalog: Here) -> JSONResponse:
    """Encrypt the project: 201, or 200 if it is. Refused with 409 once it has, or had, a dataset; never undone."""
    return answer(await catalog.in_unit(encrypt_project, caller, keys=catalog.keys, clock=catalog.clock))


@router.get("/key")
async def get_key(caller: Holder, catalog: Here) -> JSONResponse:
    """Return the project's key in base64, to seal and open with. Each time is written into the audit trail."""
    found = await catalog.in_unit(hand_out, caller, keys=catalog.keys)
    return JSONResponse(found, headers={"cache-control": "no-store"})
