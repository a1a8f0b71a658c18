"""/v1/landings: files from a browser, or from whoever has no more than HTTP, on their way to a version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.landings import (
    MAX_PART_BYTES,
    MAX_PARTS,
    PART_BYTES,
    CloseLanding,
    SentPart,
    check_parts,
    check_whole,
    close_landing,
    key_of,
)
from catalog.entrypoints.dependencies import Here, may
from catalog.entrypoints.routes.events import operation_path
from millrace.clock import new_id
from millrace.errors import Invalid
from millrace.events.names import ResourceName

router = APIRouter(prefix="/v1/landings", tags=["landings"])
Writer = Annotated[Caller, Depends(may("datasets:write"))]
Announcer = Annotated[Caller, Depends(may("events:write"))]
LandingId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
FilePath = Annotated[str, Path(max_length=1_024, description="the file's path in the version to be")]
Attempt = Annotated[str, Query(pattern=r"^[0-9A-Za-z._~+/=-]{1,1024}$", description="what `POST` of the file answered")]
Length = Annotated[int, Header(alias="content-length", ge=0, le=MAX_PART_BYTES)]

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class PartBody(BaseModel):
    """A part that was sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1, le=MAX_PARTS)
    tag: str = Field(pattern=r"^[0-9A-Za-z-]{1,128}$")


class JoinBody(BaseModel):
    """All parts of a file, and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: str = Field(pattern=r"^[0-9A-Za-z._~+/=-]{1,1024}$")
    size: int = Field(ge=1, le=MAX_PARTS * MAX_PART_BYTES)
    parts: list[PartBody] = Field(min_length=1, max_length=MAX_PARTS)


class CloseBody(BaseModel):
    """What was put, and what becomes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: ResourceName
    files: int = Field(ge=1)
    bytes: int = Field(ge=0)
    mode: Literal["replace", "append"] = "append"
    message: str = Field(default="", max_length=2_000)
    archive: str | None = Field(
        default=None, max_length=255, pattern=r"^[A-Za-z0-9._-]+$", description="the one file, to be unpacked"
    )


@router.post("", status_code=201)
async def post_landing(_: Writer) -> JSONResponse:
    """Begin a landing. Files up to `part_bytes` are put whole, larger ones in parts of that size or more."""
    landing = str(new_id())
    body = {
        "landing": landing,
        "part_bytes": PART_BYTES,
        "max_part_bytes": MAX_PART_BYTES,
        "max_parts": MAX_PARTS,
    }
    return JSONResponse(body, status_code=201)


@router.put("/{landing}/files/{path:path}", status_code=204, openapi_extra=BODY)
async def put_landed_file(
    landing: LandingId, path: FilePath, request: Request, caller: Writer, catalog: Here, *, length: Length
) -> Response:
    """Put a file whole; a repeat replaces it."""
    await catalog.zone.put(key_of(caller.project, landing, path), length, _body(request))
    return Response(status_code=204)


@router.post("/{landing}/parts/{path:path}", status_code=201)
async def post_landed_parts(landing: LandingId, path: FilePath, caller: Writer, catalog: Here) -> dict[str, Any]:
    """Begin a file that comes in parts."""
    return {"upload": await catalog.zone.begin(key_of(caller.project, landing, path))}


@router.put("/{landing}/parts/{path:path}", openapi_extra=BODY)
async def put_landed_part(
    landing: LandingId,
    path: FilePath,
    request: Request,
    caller: Writer,
    catalog: Here,
    *,
    upload: Attempt,
    number: Annotated[int, Query(ge=1, le=MAX_PARTS, description="counted from 1")],
    length: Length,
) -> dict[str, Any]:
    """Put a part of a file, in any order; a repeat replaces it. All but the last have the same 8 MiB or more."""
    key = key_of(caller.project, landing, path)
    tag = await catalog.zone.put_part(key, upload, number, length, _body(request))
    return {"number": number, "tag": tag}


@router.delete("/{landing}/parts/{path:path}", status_code=204)
async def delete_landed_parts(
    landing: LandingId, path: FilePath, caller: Writer, catalog: Here, *, upload: Attempt
) -> Response:
    """Forget the parts of a file that will not be finished."""
    await catalog.zone.abandon(key_of(caller.project, landing, path), upload)
    return Response(status_code=204)


@router.post("/{landing}/files/{path:path}", status_code=204)
async def join_landed_parts(
    landing: LandingId, path: FilePath, body: JoinBody, caller: Writer, catalog: Here
) -> Response:
    """Make the parts of a file one; it has the size that is said, or is refused."""
    parts = [SentPart(part.number, part.tag) for part in body.parts]
    check_parts(parts)
    await catalog.zone.join(key_of(caller.project, landing, path), body.upload, parts, body.size)
    return Response(status_code=204)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise Invalid("the body ended early") from None


@router.post("/{landing}", status_code=202)
async def close(landing: LandingId, body: CloseBody, _: Writer, caller: Announcer, catalog: Here) -> JSONResponse:
    """Say that everything is there: 202, and `Location` says where to follow what becomes of it.

    Ingest looks at every file, frees DICOM of identities, and makes the version. Repeating this changes nothing.
    """
    if body.archive is not None and body.files != 1:
        raise Invalid("an archive is the only file of its landing")
    cmd = CloseLanding(landing=landing, **body.model_dump())
    await check_whole(cmd, caller, zone=catalog.zone)
    operation = await catalog.in_unit(close_landing, cmd, caller, zone=catalog.zone, clock=catalog.clock)
    location = operation_path(operation.id, caller.project)
    return JSONResponse(views.operation(operation), status_code=202, headers={"location": location, "retry-after": "1"})
