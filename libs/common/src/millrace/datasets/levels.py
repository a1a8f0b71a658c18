"""One level of a version's tree: the folders and files right below a prefix, a page at a time.

Paths are sorted, so whatever lies below a folder is one run of rows: a folder is found by a binary search and passed
over by another, and only the rows of a page are ever looked at. Folders come first, then files, each in path order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.paths import problem
from millrace.errors import Invalid

Phase = Literal["d", "f"]
AFTER_SLASH = chr(ord("/") + 1)
MAX_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a level, with what lies anywhere below it; `bytes` is a sum of file sizes."""

    name: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Level:
    """A page of what lies right below a prefix. `total_…` count everything below it, at any depth."""

    folders: tuple[Folder, ...]
    files: tuple[Entry, ...]
    total_files: int
    total_bytes: int
    next: str | None


def check_prefix(prefix: str) -> str:
    """Return a prefix as manifests need it: empty, or a folder's path and a slash.

    Raises:
        Invalid: no path of a version can begin so.
    """
    if not prefix:
        return ""
    folder = prefix.removesuffix("/")
    if (why := problem(folder)) is not None:
        raise Invalid(f"`prefix` is a folder of the version: {why}")
    return f"{folder}/"


def span(manifest: Manifest, prefix: str) -> tuple[int, int]:
    """Return the rows that lie below a prefix, as (first, beyond the last)."""
    paths = _Paths(manifest)
    return (paths.at(prefix), paths.at(f"{prefix[:-1]}{AFTER_SLASH}")) if prefix else (0, manifest.files)


def size_of(manifest: Manifest, first: int, last: int) -> int:
    """Return the bytes of a run of files."""
    return int(pc.sum(manifest.table.column("size").slice(first, last - first)).as_py() or 0)


def level(manifest: Manifest, prefix: str, *, after: str | None, limit: int) -> Level:
    """Return a page of at most `limit` folders and files right below `prefix`, which `check_prefix` has seen.

    Raises:
        Invalid: `after` is not the `next` of a page.
    """
    first, last = span(manifest, prefix)
    walk = _Walk(manifest, prefix, first, last)
    phase, name = _cursor(after)
    folders: list[Folder] = []
    rows: list[int] = []
    following: str | None = None
    if phase == "d":
        for folder in walk.folders(walk.beyond_folder(name) if name else first):
            if len(folders) == limit:
                following = f"d/{folders[-1].name}"
                break
            folders.append(folder)
    if following is None:
        start = walk.paths.at(f"{prefix}{name}\0") if phase == "f" else first
        rows, more = walk.files(start, limit - len(folders))
        if more:
            following = f"f/{walk.name(rows[-1])}" if rows else "f/"
    total = size_of(manifest, first, last)
    return Level(tuple(folders), tuple(manifest.take(rows)), last - first, total, following)


def _cursor(after: str | None) -> tuple[Phase, str]:
    if after is None:
        return "d", ""
    phase, slash, name = after.partition("/")
    if phase not in {"d", "f"} or not slash or "/" in name or (phase == "d" and not name):
        raise Invalid("`after` is the `next` of a page of this folder")
    return ("d" if phase == "d" else "f"), name


class _Paths:
    """The paths of a manifest as a sequence that can be bisected; UTF-8 sorts as code points do."""

    def __init__(self, manifest: Manifest) -> None:
        self._column = manifest.table.column("path")

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> str:
        return str(self._column[index].as_py())

    def at(self, path: str) -> int:
        """Return the first row whose path is not before `path`."""
        return bisect_left(self, path)


class _Walk:
    """Goes through the rows `first` to `last` below a prefix, and never through those of its subfolders."""

    def __init__(self, manifest: Manifest, prefix: str, first: int, last: int) -> None:
        self.paths = _Paths(manifest)
        self._manifest, self._prefix, self._first, self._last = manifest, prefix, first, last

    def name(self, row: int) -> str:
        """Return what stands right below the prefix in a row: a file's name, or a folder's."""
        return self.paths[row][len(self._prefix) :].partition("/")[0]

    def beyond_folder(self, name: str) -> int:
        """Return the first row after everything in a subfolder."""
        return self.paths.at(f"{self._prefix}{name}{AFTER_SLASH}")

    def folders(self, row: int) -> Iterator[Folder]:
        """Yield the subfolders from a row on."""
        while (row := self._next(row, folder=True)) < self._last:
            name = self.name(row)
            beyond = self.beyond_folder(name)
            yield Folder(name, beyond - row, size_of(self._manifest, row, beyond))
            row = beyond

    def files(self, row: int, limit: int) -> tuple[list[int], bool]:
        """Return the rows of the next files, and whether there are more."""
        found: list[int] = []
        while (row := self._next(row, folder=False)) < self._last:
            if len(found) == limit:
                return found, True
            block = self._below(row, min(self._last, row + limit - len(found)))
            run = int(np.argmax(block)) if block.any() else len(block)
            found += range(row, row + run)
            row += run
        return found, False

    def _next(self, row: int, *, folder: bool) -> int:
        """Return the next row that lies in a subfolder, or the next that does not."""
        size = 1
        while row < self._last:
            block = self._below(row, min(self._last, row + size)) == folder
            if block.any():
                return row + int(np.argmax(block))
            row, size = row + len(block), min(size * 8, MAX_BLOCK)
        return row

    def _below(self, start: int, stop: int) -> Any:
        """Return for each row whether it lies in a subfolder."""
        rest = pc.utf8_slice_codeunits(
            self._manifest.table.column("path").slice(start, stop - start), len(self._prefix)
        )
        return pc.greater_equal(pc.find_substring(rest, "/"), 0).to_numpy(zero_copy_only=False)
