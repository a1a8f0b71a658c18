"""Turning prepared files into packs and chunks in the lake, with bounded memory and no byte sent twice.

A pack's id follows from the digests and sizes of its blobs. So where digests are known from an earlier try, a pack
that reached the lake then is recognised by one HEAD, and its files are not even read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blake3 import blake3

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.known import KnownBlobs, Location
from millrace.datasets.limits import CHUNK, CHUNKED_ABOVE, PACK_TARGET
from millrace.datasets.manifest import PackRef
from millrace.datasets.pack import footer, pack_id, size_with
from millrace.datasets.paths import printable
from millrace.datasets.progress import Meter
from millrace.datasets.sources import Changed, Prepared, SourceFile, load
from millrace.objects.port import ObjectStore

IN_FLIGHT = 2
"""Packs or chunks on their way at once; with the one being filled this bounds memory near 200 MiB."""


@dataclass(slots=True)
class _Open:
    """The pack that is being filled."""

    ordinal: int
    blobs: list[tuple[bytes, int]] = field(default_factory=list)
    contents: list[bytes | SourceFile] = field(default_factory=list)
    data: int = 0


@dataclass(slots=True)
class Uploaded:
    """What a push put into the lake: ids, bytes sent, objects found there already."""

    packs: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    reused_bytes: int = 0
    objects_skipped: int = 0


class Packer:
    """Takes prepared files one after the other; `finish` waits until everything is stored."""

    def __init__(
        self,
        store: ObjectStore,
        project: str,
        builder: ManifestBuilder,
        known: KnownBlobs,
        meter: Meter,
        *,
        dry_run: bool = False,
    ) -> None:
        self.done = Uploaded()
        self._store, self._project = store, project
        self._builder, self._known, self._meter = builder, known, meter
        self._dry_run = dry_run
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._placed: dict[bytes, tuple[int, int]] = {}
        self._sent_chunks: set[bytes] = set()
        self._open: _Open | None = None

    async def add(self, item: Prepared) -> None:
        """Take one file."""
        source, digest, data = item.source, item.digest, item.data
        if digest is not None and self._reuse(source, digest):
            return
        if source.size > CHUNKED_ABOVE:
            await self._add_chunked(item)
            return
        if digest is None:
            data, digest = await load(source, None)
            if item.hashed is not None:
                item.hashed(digest)
            if self._reuse(source, digest):
                return
        await self._add_small(source, digest, data)

    def _reuse(self, source: SourceFile, digest: bytes) -> bool:
        """Add a row for bytes that are in the lake or in this push already."""
        placed = self._placed.get(digest)
        if placed is not None:
            self._row(source, digest, pack=placed[0], offset=placed[1])
        elif source.size == 0:
            self._row(source, digest)
        elif (location := self._known.find(digest, source.size)) is not None:
            self._row_at(source, digest, location)
        else:
            return False
        self.done.reused_bytes += source.size
        return True

    def _row_at(self, source: SourceFile, digest: bytes, location: Location) -> None:
        if location.pack is None:
            self._row(source, digest, chunks=location.chunks)
        else:
            self._row(source, digest, pack=self._builder.pack(location.pack), offset=location.offset)

    def _row(
        self, source: SourceFile, digest: bytes, *, pack: int = -1, offset: int = 0, chunks: tuple[bytes, ...] = ()
    ) -> None:
        self._builder.add(
            source.path,
            digest,
            source.size,
            mode=source.mode,
            mtime_ns=source.mtime_ns,
            pack=pack,
            offset=offset,
            chunks=chunks,
        )
        self._meter.advance(files=1, done=source.size)

    async def _add_small(self, source: SourceFile, digest: bytes, data: bytes | None) -> None:
        pack = self._open
        if pack is not None and size_with(len(pack.blobs) + 1, pack.data + source.size) > PACK_TARGET:
            await self._close_pack()
            pack = None
        if pack is None:
            pack = self._open = _Open(self._builder.open_pack())
        self._placed[digest] = (pack.ordinal, pack.data)
        self._row(source, digest, pack=pack.ordinal, offset=pack.data)
        pack.blobs.append((digest, source.size))
        pack.contents.append(source if data is None else data)
        pack.data += source.size

    async def _close_pack(self) -> None:
        pack, self._open = self._open, None
        if pack is None:
            return
        end = footer(pack.blobs)
        ref = PackRef(pack_id(end), pack.data + len(end))
        self._builder.close_pack(pack.ordinal, ref)
        self.done.packs.append(ref.id)
        await self._start(partial(self._send_pack, pack, ref, end))

    async def _send_pack(self, pack: _Open, ref: PackRef, end: bytes) -> None:
        if self._dry_run:
            self.done.sent_bytes += ref.size
            return
        key = pack_key(self._project, ref.id)
        partly_known = any(isinstance(content, SourceFile) for content in pack.contents)
        if partly_known and await self._store.head(key) is not None:
            self.done.objects_skipped += 1
            return
        parts = []
        for content, (digest, _) in zip(pack.contents, pack.blobs, strict=True):
            parts.append((await load(content, digest))[0] if isinstance(content, SourceFile) else content)
        pack.contents.clear()
        await self._put(key, b"".join((*parts, end)))

    async def _put(self, key: str, data: bytes) -> None:
        if await self._store.put(key, data, create_only=True):
            self.done.sent_bytes += len(data)
            self._meter.advance(transferred=len(data))
        else:
            self.done.objects_skipped += 1

    async def _add_chunked(self, item: Prepared) -> None:
        source, whole, chunks = item.source, blake3(), []
        for offset in range(0, source.size, CHUNK):
            data = await source.read(offset, min(CHUNK, source.size - offset))
            if len(data) != min(CHUNK, source.size - offset):
                raise Changed(f"{printable(source.path)} changed while it was pushed", hint="run it again")
            digest = await asyncio.to_thread(_hash_both, whole, data)
            chunks.append(digest)
            if digest not in self._known.chunks and digest not in self._sent_chunks:
                self._sent_chunks.add(digest)
                self.done.chunks.append(digest.hex())
                await self._start(partial(self._send_chunk, digest, data))
            else:
                self.done.reused_bytes += len(data)
        digest = whole.digest()
        if item.digest is not None and item.digest != digest:
            raise Changed(f"{printable(source.path)} changed while it was pushed", hint="run it again")
        if item.hashed is not None:
            item.hashed(digest)
        self._row(source, digest, chunks=tuple(chunks))

    async def _send_chunk(self, digest: bytes, data: bytes) -> None:
        key = chunk_key(self._project, digest.hex())
        if self._dry_run:
            self.done.sent_bytes += len(data)
        elif await self._store.head(key) is not None:
            self.done.objects_skipped += 1
        else:
            await self._put(key, data)

    async def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run an upload in the background as soon as there is room; a failed one ends the push at the next step."""
        await self._room.acquire()
        if self._failure is not None:
            self._room.release()
            raise self._failure
        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def finish(self) -> Uploaded:
        """Store the last pack, wait for all uploads, and return what was done."""
        await self._close_pack()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure
        return self.done

    async def abort(self) -> None:
        """Stop all uploads; what is stored already stays, named by its content."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _hash_both(whole: blake3, data: bytes) -> bytes:
    whole.update(data)
    return blake3(data).digest()
