"""Where a `Dataset` gets bytes from: a folder of packs, a tree of files, or the lake, by rows of the manifest."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow.compute as pc
from blake3 import blake3

from millrace.datasets.fetch import check_blob, fetch_chunk, fetch_group, plan
from millrace.datasets.limits import CHUNK, MIB
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import CHUNKS, PACKS
from millrace.errors import Corrupt, NotFound
from millrace.objects.port import ObjectStore

T = TypeVar("T")

OPEN_PACKS = 256
"""Packs that are held open at once."""

LONGEST_READ = 8 * MIB
"""Neighbours in a pack are read together up to this many bytes."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(Protocol):
    """Reads files by their positions in the version."""

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked."""

    def close(self) -> None:
        """Let go of what is held."""


class TreeSource:
    """Files below a folder; links are not followed. With a manifest, every read is checked against it."""

    def __init__(self, root: Path, paths: Sequence[str] | None, manifest: Manifest | None) -> None:
        self._root, self._paths, self._manifest = os.fspath(root), paths, manifest

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked."""
        if self._manifest is None:
            assert self._paths is not None  # noqa: S101 - one of the two is given
            return [self._read(self._paths[row]) for row in rows]
        found = []
        for entry in self._manifest.take(rows):
            data = self._read(entry.path)
            check_blob(entry, data)
            found.append(data)
        return found

    def _read(self, path: str) -> bytes:
        try:
            handle = os.open(f"{self._root}/{path}", _READ)
        except OSError as error:
            raise NotFound(f"cannot read {path!a}: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            return file.read()

    def close(self) -> None:
        """Nothing is held."""


class PackSource:
    """A folder of packs as `fill_packs` leaves it: verified when it was filled, and read by offset."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self._root, self._manifest = root, manifest
        table = manifest.table
        self._packs = pc.fill_null(table.column("pack"), -1).to_numpy()
        self._offsets = pc.fill_null(table.column("offset"), 0).to_numpy()
        self._sizes = table.column("size").to_numpy()
        self._open: dict[int, int] = {}

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked; neighbours in a pack are read at once."""
        at = np.asarray(rows, dtype=np.int64)
        packs, offsets, sizes = self._packs[at], self._offsets[at], self._sizes[at]
        found: list[bytes] = []
        for start, stop in _runs(packs, offsets, sizes):
            if packs[start] < 0:
                found += [self._unpacked(int(row)) for row in at[start:stop].tolist()]
            else:
                pack, offset, lengths = int(packs[start]), int(offsets[start]), sizes[start:stop].tolist()
                found += _cut(self._pread(pack, offset, sum(lengths)), lengths)
        return found

    def _pread(self, pack: int, offset: int, length: int) -> bytes:
        data = os.pread(self._handle(pack), length, offset)
        if len(data) != length:
            raise Corrupt(f"pack {self._manifest.packs[pack].id} is cut short", hint="let the cache be scrubbed")
        return data

    def _handle(self, pack: int) -> int:
        handle = self._open.get(pack)
        if handle is None:
            name = self._manifest.packs[pack].id
            try:
                handle = os.open(self._root / PACKS / name, _READ)
            except OSError as error:
                raise NotFound(f"cannot read pack {name}: {error.strerror}") from None
            while len(self._open) >= OPEN_PACKS:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[pack] = handle
        return handle

    def _unpacked(self, row: int) -> bytes:
        entry = self._manifest.entry(row)
        parts = []
        for index, chunk in enumerate(entry.chunks):
            path = self._root / CHUNKS / chunk.hex()
            try:
                part = path.read_bytes()
            except OSError as error:
                raise NotFound(f"cannot read chunk {chunk.hex()}: {error.strerror}") from None
            if len(part) != min(CHUNK, entry.size - index * CHUNK):
                raise Corrupt(f"chunk {chunk.hex()} is cut short", hint="let the cache be scrubbed")
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the packs."""
        while self._open:
            os.close(self._open.popitem()[1])


def _runs(packs: Any, offsets: Any, sizes: Any) -> list[tuple[int, int]]:
    """Return (start, stop) of the rows that lie back to back in one pack, none longer than `LONGEST_READ`."""
    if not len(packs):
        return []
    ends = offsets + sizes
    breaks = (packs[1:] != packs[:-1]) | (offsets[1:] != ends[:-1])
    starts = [0, *(np.flatnonzero(breaks) + 1).tolist()]
    runs = []
    for start, stop in zip(starts, [*starts[1:], len(packs)], strict=True):
        first = start
        while int(ends[stop - 1] - offsets[first]) > LONGEST_READ and stop - first > 1:
            fitting = int(np.searchsorted(ends[first:stop], offsets[first] + LONGEST_READ, side="right"))
            runs.append((first, first + max(1, fitting)))
            first += max(1, fitting)
        runs.append((first, stop))
    return runs


def _cut(data: bytes, lengths: list[int]) -> list[bytes]:
    if len(lengths) == 1:
        return [data]
    found, at = [], 0
    for length in lengths:
        found.append(data[at : at + length])
        at += length
    return found


class LakeSource:
    """Blobs of the lake, each verified; near ones share a request."""

    def __init__(self, store: ObjectStore, manifest: Manifest, project: str) -> None:
        self._store, self._manifest, self._project = store, manifest, project
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dataset-reader", daemon=True)
        self._thread.start()

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked."""
        return self._call(self._read_rows(rows))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _read_rows(self, rows: Sequence[int]) -> list[bytes]:
        found: dict[str, bytes] = {}
        entries = self._manifest.take(rows)
        todo = plan(self._manifest, {entry.path: entry for entry in entries}.values())
        fetched = await asyncio.gather(*(fetch_group(self._store, self._project, group) for group in todo.groups))
        for group, answer in zip(todo.groups, fetched, strict=True):
            for entry, content in zip(group.entries, answer.contents, strict=True):
                check_blob(entry, content)
                found[entry.path] = bytes(content)
        for entry in todo.chunked:
            parts = [await fetch_chunk(self._store, self._project, entry, index) for index in range(len(entry.chunks))]
            found[entry.path] = b"".join(parts)
            if blake3(found[entry.path]).digest() != entry.digest:
                raise Corrupt(f"the chunks of {entry.path!a} do not make its bytes", path=entry.path)
        return [found.get(entry.path, b"") for entry in entries]

    def close(self) -> None:
        """End the event loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._loop.is_running():
            self._loop.close()
