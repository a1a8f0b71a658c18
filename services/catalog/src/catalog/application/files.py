"""Single files of a version, whole or by range: what a browser, a script or a page shows without a working copy."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from catalog.domain.datasets import Version
from catalog.errors import FileNotInVersion, RangeNotSatisfiable

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class VersionFile:
    """One file of a version: size in bytes, BLAKE3 in hex."""

    path: str
    size: int
    digest: str


class Files(Protocol):
    """Files of versions in the lake."""

    async def find(self, version: Version, path: str) -> VersionFile | None:
        """Return a file, or None where the version has none of that path. Raises ObjectMissing, Corrupt."""

    def read(self, version: Version, path: str, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes of a file from `start`; what is read whole is verified. Raises NotFound, Corrupt."""


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
