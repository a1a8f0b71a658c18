"""The fsspec file system `millrace://PROJECT/DATASET@VERSION/PATH`: whoever reads through fsspec reads versions.

    import pandas as pd

    table = pd.read_csv("millrace://default/people@2/visits.csv")

Read-only: versions never change. Needs the extra `millrace-sdk[fsspec]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from millrace.errors import NotFound
from millrace_sdk.datasets import Dataset

OPEN_VERSIONS = 8
"""Versions that are held open at once."""

BLOCK_BYTES = 4 * 1024 * 1024
"""What an open file reads at once."""


class MillraceFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Versions as folders. Options: `url` of the gateway; the token comes from where the command line takes it."""

    protocol: ClassVar[str] = "millrace"
    root_marker: ClassVar[str] = ""

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._url = url
        self._versions: dict[tuple[str, str], Dataset] = {}

    def _version(self, path: str) -> tuple[Dataset, str]:
        """Return the version that a path lies in, and the path inside it."""
        parts = self._strip_protocol(path).split("/", 2)
        if len(parts) < 2 or not parts[1]:
            raise FileNotFoundError(f"{path!r} names no version: millrace://PROJECT/DATASET@VERSION/PATH")
        key = (parts[0], parts[1])
        if key not in self._versions:
            while len(self._versions) >= OPEN_VERSIONS:
                self._versions.pop(next(iter(self._versions))).close()
            try:
                self._versions[key] = Dataset.open(parts[1], project=parts[0], url=self._url)
            except NotFound as error:
                raise FileNotFoundError(str(error)) from None
        return self._versions[key], parts[2] if len(parts) == 3 else ""

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Return name, size in bytes and type of a file or folder.

        Raises:
            FileNotFoundError: the version has neither.
        """
        dataset, inside = self._version(path)
        name = self._strip_protocol(path)
        manifest = dataset.manifest
        assert manifest is not None  # noqa: S101 - versions of the lake have one
        row = manifest.find(inside) if inside else None
        if row is not None:
            entry = manifest.entry(row)
            return {"name": name, "size": entry.size, "type": "file", "blake3": entry.hex, "mtime_ns": entry.mtime_ns}
        if not inside or _below(manifest.table, inside).num_rows:
            return {"name": name, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        """List a folder of a version, or the one file that the path names.

        Raises:
            FileNotFoundError: there is no such thing.
        """
        found = self.info(path)
        items = [found] if found["type"] == "file" else self._children(path)
        return items if detail else [item["name"] for item in items]

    def _children(self, path: str) -> list[dict[str, Any]]:
        dataset, inside = self._version(path)
        assert dataset.manifest is not None  # noqa: S101 - versions of the lake have one
        base, start = self._strip_protocol(path).rstrip("/"), len(inside) + 1 if inside else 0
        table = _below(dataset.manifest.table, inside)
        rest = pc.utf8_slice_codeunits(table.column("path"), start=start)
        is_file = pc.invert(pc.match_substring(rest, "/"))
        folders = pc.unique(pc.replace_substring_regex(rest.filter(pc.invert(is_file)), "/.*$", "")).to_pylist()
        sizes = table.column("size").filter(is_file).to_pylist()
        files = zip(rest.filter(is_file).to_pylist(), sizes, strict=True)
        items = [{"name": f"{base}/{name}", "size": 0, "type": "directory"} for name in folders]
        items += [{"name": f"{base}/{name}", "size": size, "type": "file"} for name, size in files]
        return sorted(items, key=lambda item: str(item["name"]))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """Return a file's bytes, or a part of them; positions count as in a slice."""
        dataset, inside = self._version(path)
        first, last, _ = slice(start, end).indices(self._size(path))
        try:
            whole = start is None and end is None
            return dataset.read(inside) if whole else dataset.read_range(inside, first, max(0, last - first))
        except NotFound:
            raise FileNotFoundError(path) from None

    def _size(self, path: str) -> int:
        found = self.info(path)
        if found["type"] != "file":
            raise IsADirectoryError(path)
        return int(found["size"])

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, cache_options: Any = None, **_options: Any
    ) -> VersionFile:
        if mode != "rb":
            raise OSError("a version never changes: files are opened for reading only")
        return VersionFile(
            self, path, mode, block_size=block_size or BLOCK_BYTES, cache_options=cache_options, size=self._size(path)
        )


class VersionFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file of a version; read by blocks, so that a large one is never in memory whole."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


def _below(table: pa.Table, folder: str) -> pa.Table:
    """Return the rows of a manifest below a folder, all of them for the top."""
    return table.filter(pc.starts_with(table.column("path"), f"{folder.rstrip('/')}/")) if folder else table
