"""/v1/datasets/…/preview: a picture of a file, made to be looked at and never to be trusted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import Response

from catalog.application.caller import Caller
from catalog.application.pictures import Look, find_picture
from catalog.application.versions import find_version
from catalog.entrypoints.dependencies import Here, Name, may
from catalog.entrypoints.sending import headers_of, is_known
from millrace.errors import Invalid

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Reader = Annotated[Caller, Depends(may("datasets:read"))]
Ref = Annotated[str, Path(max_length=64, description="a number, a commit or a prefix of one, or `latest`")]
FilePath = Annotated[str, Path(max_length=4_096, description="the file's path in the version")]
Value = Annotated[float | None, Query(ge=-1e9, le=1e9, allow_inf_nan=False)]

PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {}, "image/jpeg": {}},
        "description": "the picture. `millrace-frames` counts the file's frames, `millrace-window` is the window that "
        "was used (centre, width), `millrace-range` the smallest and largest value, in the file's own units",
    },
    304: {"description": "it is what `If-None-Match` names"},
}
SANDBOX = "default-src 'none'; sandbox"


@router.get("/{name}/versions/{ref}/preview/{path:path}", response_class=Response, responses=PICTURE)
async def get_preview(
    name: Name,
    ref: Ref,
    path: FilePath,
    caller: Reader,
    catalog: Here,
    *,
    frame: Annotated[int, Query(ge=0, le=1_000_000, description="of a file with several, counted from 0")] = 0,
    center: Annotated[Value, Query(description="of the window, in the file's own units; by default its own")] = None,
    width: Annotated[Value, Query(gt=0, le=1e9, description="of the window; with `center` or not at all")] = None,
    size: Annotated[int, Query(ge=16, le=2_048, description="longest side in pixels")] = 512,
    known: Annotated[str | None, Header(alias="if-none-match", max_length=256)] = None,
) -> Response:
    """Return a picture of an image or of a DICOM slice, through its own window or the one that is asked for.

    What is no picture, is broken, or would take too much memory or time is refused with 422.
    """
    if (center is None) != (width is None):
        raise Invalid("`center` and `width` make a window together")
    look = Look(frame, center, width, size)
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    found, tag = await find_picture(version, path, look, files=catalog.files)
    headers = headers_of(tag, found.path.rpartition("/")[2], inline=True) | {"content-security-policy": SANDBOX}
    if is_known(tag, known):
        return Response(status_code=304, headers=headers)
    parts = catalog.files.read(version, path, 0, found.size)
    picture = await catalog.painter.paint(look, found.size, parts)
    headers["millrace-frames"] = str(picture.frames)
    for header, pair in (("millrace-window", picture.window), ("millrace-range", picture.range)):
        if pair is not None:
            headers[header] = f"{pair[0]:g},{pair[1]:g}"
    return Response(picture.data, headers=headers, media_type=picture.media_type)
