"""/v1/datasets/…/files, …/tree, …/diff, …/archive.zip: what lies in a version, without a working copy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from blake3 import blake3
from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import Response, StreamingResponse

from catalog.application.caller import Caller
from catalog.application.catalog import Catalog
from catalog.application.files import VersionFile, find_file, list_changes, list_level, open_archive, part_of
from catalog.application.versions import find_version
from catalog.domain.datasets import Version
from catalog.entrypoints.dependencies import Here, Limit, Name, may
from catalog.entrypoints.sending import Paced, Slots, begun, headers_of, is_known

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Reader = Annotated[Caller, Depends(may("datasets:read"))]
Ref = Annotated[str, Path(max_length=64, description="a number, a commit or a prefix of one, or `latest`")]
Other = Annotated[str, Query(max_length=64, description="a number, a commit or a prefix of one, or `latest`")]
FilePath = Annotated[str, Path(max_length=4_096, description="the file's path in the version")]
Prefix = Annotated[str, Query(max_length=4_096, description="a folder of the version; empty: all of it")]
Cursor = Annotated[str | None, Query(max_length=1_100, description="the `next` of the page before")]
Range = Annotated[str | None, Header(alias="range", max_length=128)]
Known = Annotated[str | None, Header(alias="if-none-match", max_length=256)]

_NOT_CHANGED = {"description": "it is what `If-None-Match` names"}
_BYTES: dict[str, Any] = {"content": {"application/octet-stream": {}}}
FILE: dict[int | str, dict[str, Any]] = {
    200: {**_BYTES, "description": "the file"},
    206: {**_BYTES, "description": "the range of the file"},
    304: _NOT_CHANGED,
}
ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}, "description": "the zip; its length is known beforehand"},
    304: _NOT_CHANGED,
}
PATIENCE = 60.0
"""Seconds in which the reader of a zip has to take a piece of 1 MiB: whoever stalls gives its slot to the next."""

ARCHIVES = Slots(8, "archives are being sent")
"""Each takes about 100 MiB at its peak (measured), and some tens for as long as its reader is slow."""


@router.get("/{name}/versions/{ref}/files/{path:path}", response_class=Response, responses=FILE)
async def get_file(
    name: Name,
    ref: Ref,
    path: FilePath,
    caller: Reader,
    catalog: Here,
    *,
    range_header: Range = None,
    known: Known = None,
) -> Response:
    """Return a file of a version, or one range of it. Its tag is its BLAKE3: a version's files never change.

    It is never shown as a page of this origin, whatever it holds.
    """
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    found = await find_file(version, path, files=catalog.files)
    return await _file(version, found, catalog, range_header, known, body=True)


@router.head("/{name}/versions/{ref}/files/{path:path}", response_class=Response, responses=FILE)
async def head_file(
    name: Name,
    ref: Ref,
    path: FilePath,
    caller: Reader,
    catalog: Here,
    *,
    range_header: Range = None,
    known: Known = None,
) -> Response:
    """Return what is known of a file without its bytes: size, tag, and that ranges are taken."""
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    found = await find_file(version, path, files=catalog.files)
    return await _file(version, found, catalog, range_header, known, body=False)


async def _file(
    version: Version, found: VersionFile, catalog: Catalog, wanted: str | None, known: str | None, *, body: bool
) -> Response:
    headers = headers_of(found.digest, found.path.rpartition("/")[2]) | {"accept-ranges": "bytes"}
    if is_known(found.digest, known):
        return Response(status_code=304, headers=headers)
    part = part_of(found.size, wanted)
    headers["content-length"] = str(part.length)
    if part.partial:
        headers["content-range"] = f"bytes {part.start}-{part.start + part.length - 1}/{found.size}"
    status, kind = 206 if part.partial else 200, "application/octet-stream"
    if not body or not part.length:
        return Response(status_code=status, headers=headers, media_type=kind)
    data = await begun(catalog.files.read(version, found.path, part.start, part.length))
    return StreamingResponse(data, status_code=status, headers=headers, media_type=kind)


@router.get("/{name}/versions/{ref}/tree")
async def get_tree(
    name: Name,
    ref: Ref,
    caller: Reader,
    catalog: Here,
    *,
    prefix: Prefix = "",
    after: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """List what lies right below a folder: subfolders with their files and bytes, then files; each in path order.

    `files` and `bytes` of the answer count everything below the folder. Media types are guessed from names. A prefix
    without a slash at its end may also name a file: then that is the only item.
    """
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    return await list_level(version, prefix, after=after, limit=limit, files=catalog.files)


@router.get("/{name}/diff")
async def get_diff(
    name: Name,
    caller: Reader,
    catalog: Here,
    *,
    old: Annotated[Other, Query(alias="from")],
    new: Annotated[Other, Query(alias="to")] = "latest",
    change: Annotated[Literal["added", "removed", "changed"] | None, Query(description="only these")] = None,
    after: Annotated[str | None, Query(max_length=16, description="the `next` of the page before")] = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Say what one version changed of another, by content: counts with bytes, and the paths, sorted, by page."""
    before = await find_version(caller.project, name, old, documents=catalog.documents)
    now = await find_version(caller.project, name, new, documents=catalog.documents)
    return await list_changes(before, now, kind=change, after=after, limit=limit, files=catalog.files)


@router.get("/{name}/versions/{ref}/archive.zip", response_class=Response, responses=ZIP)
async def get_archive(
    name: Name, ref: Ref, caller: Reader, catalog: Here, *, prefix: Prefix = "", known: Known = None
) -> Response:
    """Return a version, or a folder of it, as a zip that is made while it is sent; equal content gives equal bytes.

    Every file is verified before it is sent. Where one is damaged the connection breaks, and the zip is not whole.
    """
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    return await _archive(version, prefix, known, catalog, body=True)


@router.head("/{name}/versions/{ref}/archive.zip", response_class=Response, responses=ZIP)
async def head_archive(
    name: Name, ref: Ref, caller: Reader, catalog: Here, *, prefix: Prefix = "", known: Known = None
) -> Response:
    """Return how long the zip of a version, or of a folder of it, would be."""
    version = await find_version(caller.project, name, ref, documents=catalog.documents)
    return await _archive(version, prefix, known, catalog, body=False)


async def _archive(version: Version, prefix: str, known: str | None, catalog: Catalog, *, body: bool) -> Response:
    archive = await open_archive(version, prefix, files=catalog.files)
    tag = blake3(f"zip/1\n{version.manifest}\n{prefix.removesuffix('/')}".encode()).hexdigest()
    folder = prefix.removesuffix("/").replace("/", "-")
    headers = headers_of(tag, f"{version.dataset}-{version.version}{f'-{folder}' if folder else ''}.zip")
    headers["accept-ranges"] = "none"
    if is_known(tag, known):
        return Response(status_code=304, headers=headers)
    headers["content-length"] = str(archive.length)
    if not body:
        return Response(headers=headers, media_type="application/zip")
    parts = await begun(ARCHIVES.held(archive))
    return Paced(parts, patience=PATIENCE, headers=headers, media_type="application/zip")
