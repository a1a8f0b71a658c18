"""/v1/datasets/…/files: single files of a version, by range."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import Response, StreamingResponse

from catalog.application.caller import Caller
from catalog.application.files import find_file, part_of
from catalog.application.versions import find_version
from catalog.entrypoints.dependencies import Here, Name, may

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Reader = Annotated[Caller, Depends(may("datasets:read"))]
Ref = Annotated[str, Path(max_length=64, description="a number, a commit or a prefix of one, or `latest`")]
FilePath = Annotated[str, Path(max_length=4_096, description="the file's path in the version")]

RESPONSES = {
    200: {"content": {"application/octet-stream": {}}, "description": "the file"},
    206: {"content": {"application/octet-stream": {}}, "description": "the range of the file"},
    304: {"description": "the file is the one that `If-None-Match` names"},
}


@router.get("/{name}/versions/{ref}/files/{path:path}", response_class=Response, responses=RESPONSES)  # type: ignore[arg-type]
async def get_file(
    name: Name,
    ref: Ref,
    path: FilePath,
    caller: Reader,
    catalog: Here,
    *,
    range_header: Annotated[str | None, Header(alias="range", max_length=128)] = None,
    known: Annotated[str | None, Header(alias="if-none-match", max_length=256)] = None,
) -> Response:
    """Return a file of a version, or one range of it. Its tag is its BLAKE3: a version's files never change.

    It is never shown as a page of this origin, whatever it holds.
    """
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    found = await find_file(version, path, files=catalog.files)
    tag = f'"{found.digest}"'
    headers = {
        "etag": tag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(found.path.rpartition('/')[2], safe='')}",
        "x-content-type-options": "nosniff",
    }
    if known is not None and tag in {item.strip().removeprefix("W/") for item in known.split(",")}:
        return Response(status_code=304, headers=headers)
    part = part_of(found.size, range_header)
    headers["content-length"] = str(part.length)
    if part.partial:
        headers["content-range"] = f"bytes {part.start}-{part.start + part.length - 1}/{found.size}"
    return StreamingResponse(
        catalog.files.read(version, path, part.start, part.length),
        status_code=206 if part.partial else 200,
        headers=headers,
        media_type="application/octet-stream",
    )
