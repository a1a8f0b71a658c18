"""One version: its folders and files, single files and pictures, and where it came from."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Query, Request
from fastapi.responses import HTMLResponse

from catalog.console.api import ConsoleApi
from catalog.console.paths import After, FilePath, Folder, Name, Ref, version_path
from catalog.console.render import new_router, page
from catalog.console.rights import rights_of
from catalog.console.session import Api
from millrace.errors import MillraceError, NotFound

router = new_router()

ROWS, PICTURES = 200, 60
TEXT_BYTES = 64 * 1024
TEXTS = frozenset({"application/json", "application/jsonl", "application/yaml", "application/xml"})
SHOWN = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/tiff", "image/bmp", "image/x-ms-bmp"),
        "application/dicom",
    }
)
"""Media types of which the API makes a picture."""


@router.get("/datasets/{name}/versions/{ref}", response_class=HTMLResponse)
async def version(
    request: Request,
    api: Api,
    name: Name,
    ref: Ref,
    *,
    prefix: Folder = "",
    after: After = None,
    view: Annotated[Literal["list", "pictures"] | None, Query()] = None,
) -> HTMLResponse:
    """Show a version, and one of its folders."""
    tree = version_path(name, ref, "tree")
    limit = PICTURES if view == "pictures" else ROWS
    found, level, rights = await asyncio.gather(
        api.get(version_path(name, ref)), api.get(tree, prefix=prefix, after=after, limit=limit), rights_of(api)
    )
    files = [item for item in level["items"] if item["kind"] == "file"]
    pictures = [item["path"] for item in files if item["media_type"] in SHOWN]
    if view is None and len(pictures) * 2 > len(files):
        view = "pictures"
        level = await api.get(tree, prefix=prefix, after=after, limit=PICTURES)
    context = {"version": found, "level": level, "pictures": set(pictures), "view": view or "list", "after": after}
    return page(request, "version.html", here="datasets", crumbs=crumbs(level["prefix"]), rights=rights, **context)


def crumbs(prefix: str) -> list[tuple[str, str]]:
    """Return (name, prefix) of every folder on the way to a prefix."""
    names = [name for name in prefix.split("/") if name]
    return [(name, "/".join(names[: depth + 1]) + "/") for depth, name in enumerate(names)]


@router.get("/datasets/{name}/versions/{ref}/file/{path:path}", response_class=HTMLResponse)
async def file(request: Request, api: Api, name: Name, ref: Ref, path: FilePath) -> HTMLResponse:
    """Show a file: a picture with its window, the beginning of a text, or what is known of it."""
    folder = path.rpartition("/")[0]
    found, entry, record = await asyncio.gather(
        api.get(version_path(name, ref)), _entry(api, name, ref, path), _record(api, name, ref, path)
    )
    kind = record["media_type"] if record and record.get("media_type") in SHOWN else entry["media_type"]
    text = None
    if kind not in SHOWN and _is_text(kind):
        text = await _text(api, name, ref, path)
    context = {
        "version": found,
        "entry": entry,
        "kind": "dicom" if kind == "application/dicom" else "image" if kind in SHOWN else "other",
        "text": text,
        "record": record,
        "folder": f"{folder}/" if folder else "",
    }
    return page(request, "file.html", here="datasets", crumbs=crumbs(context["folder"]), **context)


async def _entry(api: ConsoleApi, name: str, ref: str, path: str) -> dict[str, Any]:
    level = await api.get(version_path(name, ref, "tree"), prefix=path)
    found: dict[str, Any] = level["items"][0]
    if found["path"] != path:
        raise NotFound(f"{name}@{ref} has no file {path[:200]!r}")
    return found


async def _record(api: ConsoleApi, name: str, ref: str, path: str) -> dict[str, Any] | None:
    """Return the record of a file, if the version has a table of records."""
    try:
        found = await api.items(version_path(name, ref, "records"), path=path[:1_024], limit=1)
    except MillraceError:
        return None
    return found[0] if found and found[0]["path"] == path else None


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in TEXTS


async def _text(api: ConsoleApi, name: str, ref: str, path: str) -> dict[str, Any] | None:
    """Return the beginning of a text, or None where it is not one after all."""
    data = await api.beginning(f"{version_path(name, ref, 'files')}/{quote(path)}", TEXT_BYTES)
    if b"\0" in data:
        return None
    return {"text": data.decode("utf-8", "replace"), "whole": len(data) < TEXT_BYTES}
