"""Where a `Dataset` gets bytes from: a folder of packs, a tree of files, or the lake, by rows of the manifest."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow.compute as pc
from blake3 import blake3

from millrace.datasets.fetch import Group, check_blob, chunk_pieces, fetch_chunk, fetch_group, plan, read_part
from millrace.datasets.limits import MIB
from millrace.datasets.loop_thread import LoopThread
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.pack_fill import CHUNKS, PACKS
from millrace.errors import Corrupt, NotFound
from millrace.objects.port import ObjectStore

T = TypeVar("T")

Connect = Callable[[], AbstractAsyncContextManager[ObjectStore]]
"""Connects to the lake, on the loop that will use the connection."""

OPEN_PACKS = 256
"""Packs that are held open at once."""

LONGEST_READ = 8 * MIB
"""Neighbours in a pack are read together up to this many bytes."""

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(Protocol):
    """Reads files by their positions in the version."""

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked."""

    def read_range(self, row: int, start: int, length: int) -> bytes:
        """Return `length` bytes of one file from `start`; the caller keeps them inside the file."""

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

    def read_range(self, row: int, start: int, length: int) -> bytes:
        """Return a part of one file; only a file that is read whole can be checked."""
        path = self._manifest.entry(row).path if self._manifest is not None else (self._paths or ())[row]
        return self._read(path, start, length)

    def _read(self, path: str, start: int = 0, length: int = -1) -> bytes:
        try:
            handle = os.open(f"{self._root}/{path}", READ_FLAGS)
        except OSError as error:
            raise NotFound(f"cannot read {path!a}: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            file.seek(start)
            return file.read(length)

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
        starts, stops = _runs(packs, offsets, sizes)
        lengths = offsets[stops - 1] + sizes[stops - 1] - offsets[starts]
        handles = self._handles(packs[starts])
        read, found = os.pread, list[bytes]()
        places = zip(packs[starts].tolist(), offsets[starts].tolist(), lengths.tolist(), strict=True)
        for (pack, offset, length), start, stop in zip(places, starts.tolist(), stops.tolist(), strict=True):
            if pack < 0:
                found += [self._unpacked(row) for row in at[start:stop].tolist()]
                continue
            data = read(handles[pack], length, offset)
            if len(data) != length:
                raise self._short(pack)
            if stop - start == 1:
                found.append(data)
            else:
                found += _cut(data, sizes[start:stop].tolist())
        return found

    def _handles(self, packs: Any) -> dict[int, int]:
        """Return the open files of these packs; no more are held open than `OPEN_PACKS`, but for one call."""
        wanted = [pack for pack in np.unique(packs).tolist() if pack >= 0]
        for pack in wanted:
            self._handle(pack, keep=wanted)
        return self._open

    def _short(self, pack: int) -> Corrupt:
        return Corrupt(f"pack {self._manifest.packs[pack].id} is cut short", hint="let the cache be scrubbed")

    def _pread(self, pack: int, offset: int, length: int) -> bytes:
        data = os.pread(self._handle(pack), length, offset)
        if len(data) != length:
            raise self._short(pack)
        return data

    def _handle(self, pack: int, *, keep: Sequence[int] = ()) -> int:
        handle = self._open.get(pack)
        if handle is None:
            handle = self._open_file(PACKS, self._manifest.packs[pack].id)
            while len(self._open) >= OPEN_PACKS and (unused := next((it for it in self._open if it not in keep), None)):
                os.close(self._open.pop(unused))
            self._open[pack] = handle
        return handle

    def _open_file(self, kind: str, name: str) -> int:
        """Open a pack or a chunk.

        Raises:
            NotFound: it is not there.
        """
        try:
            return os.open(self._root / kind / name, READ_FLAGS)
        except OSError as error:
            raise NotFound(f"cannot read {kind.removesuffix('s')} {name}: {error.strerror}") from None

    def read_range(self, row: int, start: int, length: int) -> bytes:
        """Return a part of one file."""
        pack = int(self._packs[row])
        if pack >= 0:
            return self._pread(pack, int(self._offsets[row]) + start, length)
        entry = self._manifest.entry(row)
        return b"".join(self._piece(entry, *piece) for piece in chunk_pieces(entry, start, length))

    def _unpacked(self, row: int) -> bytes:
        return self.read_range(row, 0, int(self._sizes[row]))

    def _piece(self, entry: Entry, index: int, first: int, last: int) -> bytes:
        name = entry.chunks[index].hex()
        handle = self._open_file(CHUNKS, name)
        try:
            data = os.pread(handle, last - first, first)
        finally:
            os.close(handle)
        if len(data) != last - first:
            raise Corrupt(f"chunk {name} is cut short", hint="let the cache be scrubbed")
        return data

    def close(self) -> None:
        """Close the packs."""
        while self._open:
            os.close(self._open.popitem()[1])


def _runs(packs: Any, offsets: Any, sizes: Any) -> tuple[Any, Any]:
    """Return starts and stops of the rows that lie back to back in one pack, no run longer than `LONGEST_READ`."""
    if not len(packs):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    ends = offsets + sizes
    breaks = (packs[1:] != packs[:-1]) | (offsets[1:] != ends[:-1])
    starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    stops = np.append(starts[1:], len(packs))
    if int((ends[stops - 1] - offsets[starts]).max()) <= LONGEST_READ:
        return starts, stops
    runs = [run for start, stop in zip(starts, stops, strict=True) for run in _bounded(offsets, ends, start, stop)]
    return np.array([start for start, _ in runs]), np.array([stop for _, stop in runs])


def _bounded(offsets: Any, ends: Any, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield a run cut where it would exceed `LONGEST_READ`; a single longer file stays whole."""
    while start < stop:
        fitting = int(np.searchsorted(ends[start:stop], offsets[start] + LONGEST_READ, side="right"))
        yield start, start + max(1, fitting)
        start += max(1, fitting)


def _cut(data: bytes, lengths: list[int]) -> list[bytes]:
    found, at = [], 0
    for length in lengths:
        found.append(data[at : at + length])
        at += length
    return found


class LakeSource:
    """Blobs of the lake, each verified; near ones share a request. Every process connects for itself."""

    def __init__(self, connect: Connect, manifest: Manifest, project: str) -> None:
        self._connect, self._manifest, self._project = connect, manifest, project
        self._thread = LoopThread()
        self._connected: tuple[ObjectStore, AsyncExitStack] | None = None

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked."""
        return self._call(self._read_rows, rows)

    def read_range(self, row: int, start: int, length: int) -> bytes:
        """Return a part of one file."""
        return self._call(self._read_range, row, start, length)

    def _call(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        if not self._thread.begun_here:
            self._connected = None
        return self._thread.call(work(*arguments))

    async def _store(self) -> ObjectStore:
        if self._connected is None:
            stack = AsyncExitStack()
            self._connected = (await stack.enter_async_context(self._connect()), stack)
        return self._connected[0]

    async def _read_rows(self, rows: Sequence[int]) -> list[bytes]:
        store, found = await self._store(), dict[int, bytes]()
        todo = plan(self._manifest, np.unique(np.asarray(rows, dtype=np.int64)))
        groups = [Group(pack, tuple(self._manifest.take(members))) for pack, members in todo.packs]
        fetched = await asyncio.gather(*(fetch_group(store, self._project, group) for group in groups))
        for (_, members), group, answer in zip(todo.packs, groups, fetched, strict=True):
            for row, entry, content in zip(members.tolist(), group.entries, answer.contents, strict=True):
                check_blob(entry, content)
                found[row] = bytes(content)
        for row in todo.chunked.tolist():
            found[row] = await self._chunked(store, self._manifest.entry(row))
        return [found.get(int(row), b"") for row in rows]

    async def _chunked(self, store: ObjectStore, entry: Entry) -> bytes:
        parts = [await fetch_chunk(store, self._project, entry, index) for index in range(len(entry.chunks))]
        data = b"".join(parts)
        if blake3(data).digest() != entry.digest:
            raise Corrupt(f"the chunks of {entry.path!a} do not make its bytes", path=entry.path)
        return data

    async def _read_range(self, row: int, start: int, length: int) -> bytes:
        store, entry = await self._store(), self._manifest.entry(row)
        parts = read_part(store, self._project, self._manifest, entry, start=start, length=length)
        return b"".join([part async for part in parts])

    def close(self) -> None:
        """Let go of the connections, and end the thread."""
        if self._connected is not None and self._thread.begun_here:
            self._thread.call(self._connected[1].aclose())
        self._connected = None
        self._thread.close()
