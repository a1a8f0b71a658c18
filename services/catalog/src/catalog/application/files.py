"""What lies in a version, without a working copy: single files, folders, what changed between two, a zip of it all."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from catalog.application.views import View
from catalog.domain.datasets import Version
from catalog.errors import FileNotInVersion, FolderNotInVersion, RangeNotSatisfiable
from millrace.datasets.changes import Change, Changes, Kind
from millrace.datasets.levels import Level, check_prefix
from millrace.errors import Invalid

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_MEDIA_TYPES = {
    ".avif": "image/avif",
    ".csv": "text/csv",
    ".dcm": "application/dicom",
    ".dicom": "application/dicom",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""What the standard library does not know, or what it reads from files of the machine it runs on."""

_KNOWN_TYPES = mimetypes.MimeTypes()
PLAIN = "application/octet-stream"


@dataclass(frozen=True)
class VersionFile:
    """One file of a version: size in bytes, BLAKE3 in hex."""

    path: str
    size: int
    digest: str


class Archive(Protocol):
    """A zip that is made while it is sent. `length` is exact, in bytes."""

    length: int

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the zip. Raises ObjectLost, Corrupt, Unavailable in the middle, never after the end."""


class Files(Protocol):
    """Files of versions in the lake."""

    async def find(self, version: Version, path: str) -> VersionFile | None:
        """Return a file, or None where the version has none of that path. Raises ObjectLost, Corrupt."""

    def read(self, version: Version, path: str, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes of a file from `start`; what is read whole is verified. Raises ObjectLost, Corrupt."""

    async def level(self, version: Version, prefix: str, *, after: str | None, limit: int) -> Level:
        """Return a page of what lies right below a prefix. Raises Invalid, ObjectLost, Corrupt."""

    async def changes(
        self, old: Version, new: Version, *, kind: Kind | None, start: int, limit: int
    ) -> tuple[Changes, list[tuple[int, Change]]]:
        """Return all changes, and a page of them with their positions. Raises ObjectLost, Corrupt."""

    async def archive(self, version: Version, prefix: str) -> Archive | None:
        """Return the zip of what lies below a prefix, or None where nothing does. Raises ObjectLost, Corrupt."""


@dataclass(frozen=True)
class Part:
    """Which bytes of a file are sent. `partial` says that a range was asked for."""

    start: int
    length: int
    partial: bool


async def find_file(version: Version, path: str, *, files: Files) -> VersionFile:
    """Return a file of a version.

    Raises:
        FileNotInVersion: it has none of that path.
    """
    found = await files.find(version, path)
    if found is None:
        raise FileNotInVersion(f"{version.dataset}@{version.version} has no file {path[:200]!r}")
    return found


def part_of(size: int, header: str | None) -> Part:
    """Return what a `Range` header asks of a file of `size` bytes; one range, in bytes (RFC 9110, section 14).

    A header of another form is ignored, as that section allows.

    Raises:
        RangeNotSatisfiable: it begins beyond the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.group(0) == "bytes=-":
        return Part(0, size, partial=False)
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if last and first and int(last) < int(first):
        return Part(0, size, partial=False)
    if start >= size or stop <= start:
        raise RangeNotSatisfiable(f"the file has {size} bytes", size=size)
    return Part(start, stop - start, partial=True)


def media_type(path: str) -> str:
    """Return the media type that a file's name suggests; nothing is read."""
    _, dot, ending = path.rpartition("/")[2].lower().rpartition(".")
    suffix = f"{dot}{ending}"
    guessed = _MEDIA_TYPES.get(suffix) or _KNOWN_TYPES.types_map[1].get(suffix)
    return guessed or PLAIN


async def list_level(version: Version, prefix: str, *, after: str | None, limit: int, files: Files) -> View:
    """Return a page of what lies right below a prefix, folders before files; or the one file that it names.

    Raises:
        FolderNotInVersion: nothing lies below it, and it is no file.
        Invalid: no prefix that can be, or `after` is not the `next` of a page.
    """
    checked = check_prefix(prefix)
    found = await files.level(version, checked, after=after, limit=limit)
    if checked and not found.total_files:
        return await _only_file(version, prefix, files)
    folders: list[View] = [
        {
            "kind": "folder",
            "name": folder.name,
            "path": f"{checked}{folder.name}/",
            "files": folder.files,
            "bytes": folder.bytes,
        }
        for folder in found.folders
    ]
    entries = [_entry(entry.path, entry.size, entry.hex) for entry in found.files]
    totals = {"prefix": checked, "files": found.total_files, "bytes": found.total_bytes}
    return {**totals, "items": folders + entries, "next": found.next}


async def _only_file(version: Version, path: str, files: Files) -> View:
    found = None if path.endswith("/") else await files.find(version, path)
    if found is None:
        raise _no_folder(version, path)
    folder, slash, _ = path.rpartition("/")
    only = _entry(found.path, found.size, found.digest)
    return {"prefix": folder + slash, "files": 1, "bytes": found.size, "items": [only], "next": None}


def _entry(path: str, size: int, digest: str) -> View:
    return {
        "kind": "file",
        "name": path.rpartition("/")[2],
        "path": path,
        "size": size,
        "blake3": digest,
        "media_type": media_type(path),
    }


async def list_changes(
    old: Version, new: Version, *, kind: Kind | None, after: str | None, limit: int, files: Files
) -> View:
    """Return what `new` adds, removes and changes of `old`: counts, and a page of the paths, sorted.

    Raises:
        Invalid: `after` is not the `next` of a page.
    """
    changes, found = await files.changes(old, new, kind=kind, start=_position(after), limit=limit)
    counts: dict[str, Any] = {
        name: {"files": count.files, "bytes": count.bytes, "bytes_before": count.bytes_before}
        for name, count in changes.counts.items()
    }
    items = [
        {
            "path": change.path,
            "change": change.kind,
            "size": change.size,
            "size_before": change.size_before,
            "blake3": change.digest,
            "blake3_before": change.digest_before,
        }
        for _, change in found
    ]
    following = str(found[-1][0] + 1) if len(found) == limit else None
    return {"from": old.version, "to": new.version, **counts, "items": items, "next": following}


def _position(after: str | None) -> int:
    if after is None:
        return 0
    if not (after.isascii() and after.isdecimal() and len(after) < 10):
        raise Invalid("`after` is the `next` of a page of changes")
    return int(after)


async def open_archive(version: Version, prefix: str, *, files: Files) -> Archive:
    """Return the zip of a version, or of a folder of it.

    Raises:
        FolderNotInVersion: nothing lies below the prefix.
        Invalid: no prefix that can be.
    """
    checked = check_prefix(prefix)
    found = await files.archive(version, checked)
    if found is None:
        raise _no_folder(version, checked)
    return found


def _no_folder(version: Version, prefix: str) -> FolderNotInVersion:
    return FolderNotInVersion(f"{version.dataset}@{version.version} has no folder {prefix[:200]!r}")
