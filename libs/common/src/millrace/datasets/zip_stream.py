"""A version, or a folder of it, as a zip that is made while it is sent: some windows of files in memory, never a file.

Files go in path order. A window of them is fetched by few requests, and every blob is checked before one byte of it is
sent; a damaged one ends the stream in the middle, so that no whole zip is ever made of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from millrace.datasets.ahead import in_order
from millrace.datasets.fetch import Group, check_blob, fetch_chunk, fetch_group, plan
from millrace.datasets.limits import MIB
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.zip_layout import ZipLayout
from millrace.objects.port import ObjectStore

WINDOW_BYTES = 8 * MIB
WINDOW_FILES = 512
AHEAD = 2
"""Windows, or chunks of a large file, that are in memory at once: 32 MiB, and what lies between small files."""

SLICE = MIB
"""Most bytes that are handed out at once: whoever sends them keeps a copy until they have left."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of the zip; those of a chunk of a large file still need their frame."""

    data: bytes
    entry: int | None = None
    last: bool = False


class ZipStream:
    """The zip of a run of rows of a manifest. Iterated once."""

    def __init__(self, store: ObjectStore, project: str, manifest: Manifest, first: int, last: int) -> None:
        self._store, self._project, self._manifest, self._first = store, project, manifest, first
        self._layout = ZipLayout(manifest, first, last)
        self.length = self._layout.length
        """Bytes of the whole, exactly."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the zip.

        Raises:
            Corrupt: a blob does not match its digest.
            NotFound, Unavailable: what their names say.
        """
        layout, open_entry, crc = self._layout, None, 0
        async for piece in in_order(self._work(), at_once=AHEAD):
            if piece.entry is None:
                for part in _slices(piece.data):
                    yield part
                continue
            if open_entry != piece.entry:
                open_entry, crc = piece.entry, 0
                yield layout.header(piece.entry)
            crc = await asyncio.to_thread(crc32, piece.data, crc)
            for part in _slices(piece.data):
                yield part
            if piece.last:
                layout.crcs[piece.entry] = crc
                yield layout.descriptor(piece.entry)
        directory = layout.directory()
        while (block := await asyncio.to_thread(next, directory, None)) is not None:
            yield block

    def _work(self) -> Iterator[Coroutine[Any, Any, _Piece]]:
        for start, stop in windows(self._layout.sizes, self._layout.late):
            if self._layout.late[start]:
                entry = self._manifest.entry(self._first + start)
                for index in range(len(entry.chunks)):
                    yield self._chunk(start, entry, index)
            else:
                yield self._window(start, stop)

    async def _chunk(self, at: int, entry: Entry, index: int) -> _Piece:
        data = await fetch_chunk(self._store, self._project, entry, index)
        return _Piece(data, at, last=index == len(entry.chunks) - 1)

    async def _window(self, start: int, stop: int) -> _Piece:
        rows = np.arange(self._first + start, self._first + stop)
        contents: dict[str, bytes | memoryview] = {}
        for pack, members in plan(self._manifest, rows).packs:
            group = Group(pack, tuple(self._manifest.take(members)))
            fetched = await fetch_group(self._store, self._project, group)
            contents.update(zip((entry.path for entry in group.entries), fetched.contents, strict=True))
        return _Piece(await asyncio.to_thread(self._framed, start, self._manifest.take(rows), contents))

    def _framed(self, start: int, entries: list[Entry], contents: dict[str, bytes | memoryview]) -> bytes:
        parts: list[bytes | memoryview] = []
        for index, entry in enumerate(entries, start):
            content = contents.get(entry.path, b"")
            check_blob(entry, content)
            self._layout.crcs[index] = crc32(content)
            parts += (self._layout.header(index), content)
        return b"".join(parts)


def _slices(data: bytes) -> Iterator[bytes]:
    return (data[at : at + SLICE] for at in range(0, len(data), SLICE))


def windows(sizes: Any, alone: Any) -> Iterator[tuple[int, int]]:
    """Yield runs of entries as (first, beyond the last): as many as are fetched together; some stand alone."""
    ends, solitary = np.cumsum(sizes), np.flatnonzero(alone)
    start, total = 0, len(sizes)
    while start < total:
        if alone[start]:
            stop = start + 1
        else:
            before = int(ends[start - 1]) if start else 0
            full = int(np.searchsorted(ends, before + WINDOW_BYTES, side="right"))
            at = int(np.searchsorted(solitary, start))
            following = int(solitary[at]) if at < len(solitary) else total
            stop = min(max(full, start + 1), start + WINDOW_FILES, following)
        yield start, stop
        start = stop
