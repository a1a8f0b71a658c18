"""Packs and chunks on their way into the lake: a bounded number at once, the first failure ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blake3 import blake3

from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.limits import CHUNK
from millrace.datasets.manifest import PackRef
from millrace.datasets.paths import printable
from millrace.datasets.progress import Meter
from millrace.datasets.sources import Changed, SourceFile
from millrace.objects.port import ObjectStore

IN_FLIGHT = 3
"""Packs or chunks on their way at once; with those being filled this bounds memory near 200 MiB."""


@dataclass(slots=True)
class Uploaded:
    """What a push put into the lake: ids, bytes sent, objects found there already."""

    packs: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    reused_bytes: int = 0
    objects_skipped: int = 0


Fill = Callable[[], Awaitable[bytes | memoryview]]
"""Makes the bytes of a pack, once it is known that they are wanted."""


class Uploads:
    """Sends what it is given in the background; `finish` waits for all of it."""

    def __init__(
        self, store: ObjectStore, project: str, meter: Meter, *, dry_run: bool, at_once: int = IN_FLIGHT
    ) -> None:
        self.done = Uploaded()
        self._store, self._project, self._meter, self._dry_run = store, project, meter, dry_run
        self._room = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._sent_chunks: set[bytes] = set()

    async def pack(
        self, ref: PackRef, fill: Fill, *, look_first: bool, after: Callable[[], None] = lambda: None
    ) -> None:
        """Send a pack as soon as there is room, and call `after`. `look_first`: an earlier try may have sent it."""
        self.done.packs.append(ref.id)

        async def send() -> None:
            try:
                await self._pack(ref, fill, look_first=look_first)
            finally:
                after()

        await self._start(send)

    async def _pack(self, ref: PackRef, fill: Fill, *, look_first: bool) -> None:
        key = pack_key(self._project, ref.id)
        if self._dry_run:
            self.done.sent_bytes += ref.size
        elif look_first and await self._store.head(key) is not None:
            self.done.objects_skipped += 1
        else:
            await self._put(key, await fill())

    async def large(self, source: SourceFile, expected: bytes | None, known: set[bytes]) -> tuple[bytes, list[bytes]]:
        """Send a large file's chunks that are not `known`; return the file's digest and its chunks' digests.

        Raises:
            Changed: it is not as long, or not what is `expected`.
        """
        whole, chunks = blake3(), []
        for offset in range(0, source.size, CHUNK):
            length = min(CHUNK, source.size - offset)
            data = await source.read(offset, length)
            if len(data) != length:
                raise _changed(source)
            digest = await asyncio.to_thread(_hash_both, whole, data)
            chunks.append(digest)
            if digest in known or digest in self._sent_chunks:
                self.done.reused_bytes += length
                continue
            self._sent_chunks.add(digest)
            self.done.chunks.append(digest.hex())
            await self._start(partial(self._chunk, digest, data))
        if expected is not None and expected != whole.digest():
            raise _changed(source)
        return whole.digest(), chunks

    async def _chunk(self, digest: bytes, data: bytes) -> None:
        key = chunk_key(self._project, digest.hex())
        if self._dry_run:
            self.done.sent_bytes += len(data)
        elif await self._store.head(key) is not None:
            self.done.objects_skipped += 1
        else:
            await self._put(key, data)

    async def _put(self, key: str, data: bytes | memoryview) -> None:
        if await self._store.put(key, data, create_only=True):
            self.done.sent_bytes += len(data)
            self._meter.advance(transferred=len(data))
        else:
            self.done.objects_skipped += 1

    async def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
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
        """Wait for all uploads, and return what was done."""
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


def _changed(source: SourceFile) -> Changed:
    return Changed(f"{printable(source.path)} changed while it was pushed", hint="run it again")


def _hash_both(whole: blake3, data: bytes) -> bytes:
    whole.update(data)
    return blake3(data).digest()
