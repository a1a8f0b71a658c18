"""Bringing a folder into the lake, by column: what is known is recognised at once, the rest is read pack by pack.

Runs of files are cut by size before a byte is read, so that the same folder gives the same packs whatever broke off
before; a pack whose files were all hashed in an earlier try is recognised by one HEAD and never read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from mmap import mmap
from typing import Any, TypeVar

import numpy as np
from blake3 import blake3

from millrace.datasets.ahead import in_order
from millrace.datasets.buffers import Buffers
from millrace.datasets.known import KnownBlobs
from millrace.datasets.limits import CHUNKED_ABOVE, PACK_TARGET
from millrace.datasets.manifest import Manifest, PackRef
from millrace.datasets.open_pack import OpenPack
from millrace.datasets.pack import footer, pack_id, size_with
from millrace.datasets.placement import Placement
from millrace.datasets.progress import Meter
from millrace.datasets.scan import Listing
from millrace.datasets.segments import read_segment, segments
from millrace.datasets.sources import Changed, local_file
from millrace.datasets.statcache import StatCache
from millrace.datasets.uploads import Uploaded, Uploads

T = TypeVar("T")

READERS = 2
"""Runs that are read and hashed ahead of the uploads, each into a buffer of a pack's size."""

EMPTY = np.frombuffer(blake3(b"").digest(), dtype=np.uint8)


@dataclass(slots=True)
class _Run:
    """Files that make a pack together. `buffer` holds their bytes, unless their digests were known before."""

    indices: Any
    buffer: mmap | None


@dataclass(slots=True)
class _Rest(OpenPack):
    """A pack that is put together from runs of which not all was wanted; the files in it that are not placed yet."""

    indices: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


class FolderPush:
    """One push of a listed folder. `run` brings every file into the lake; `manifest` then says where each lies."""

    def __init__(self, files: Listing, uploads: Uploads, known: KnownBlobs, meter: Meter) -> None:
        self._files, self._uploads, self._known, self._meter = files, uploads, known, meter
        self._sizes = files.column("sizes")
        self._places = Placement(files, known)
        self._cache: StatCache | None = None
        self._now_ns = 0
        self._hashed = np.zeros(len(files), dtype=bool)
        self._rest: _Rest | None = None
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="push")
        self._buffers = Buffers()

    async def run(self, cache: StatCache | None, *, now_ns: int) -> Uploaded:
        """Place every file and wait until the lake has all of them; a failure stops what is on its way.

        Raises:
            Changed: a file changed while it was read.
        """
        self._cache, self._now_ns = cache, now_ns
        try:
            await self._recognise()
            await self._send()
            return await self._uploads.finish()
        except BaseException:
            await self._uploads.abort()
            raise
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._buffers = Buffers()

    def manifest(self, parent: Manifest | None) -> Manifest:
        """Return the manifest of the folder: the parent itself where nothing differs from it."""
        return self._places.manifest(parent)

    async def _recognise(self) -> None:
        """Take from the cache what has not changed since it was hashed."""
        if self._cache is not None:
            look_up = partial(self._cache.look_up, self._files, now_ns=self._now_ns)
            self._places.digests, self._hashed = await self._blocking(look_up)
        empty = np.flatnonzero(self._sizes == 0)
        self._places.digests[empty] = EMPTY
        self._done(empty)

    async def _send(self) -> None:
        filled = self._sizes > 0
        hashed = np.flatnonzero(self._hashed & filled)
        known = self._reuse(hashed)
        todo = np.union1d(hashed[~known], np.flatnonzero(~self._hashed & filled))
        large = self._sizes[todo] > CHUNKED_ABOVE
        runs = list(segments(self._sizes, todo[~large], PACK_TARGET))
        async for run in in_order(map(self._read, runs), at_once=READERS):
            await self._place(run, alone=len(runs) == 1)
        await self._close_rest()
        for index in todo[large].tolist():
            await self._large(index)

    async def _blocking(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def _done(self, indices: Any) -> None:
        self._meter.advance(files=len(indices), done=int(self._sizes[indices].sum()))

    def _reuse(self, indices: Any) -> Any:
        found = self._places.reuse(indices)
        self._uploads.done.reused_bytes += int(self._sizes[indices[found]].sum())
        self._done(indices[found])
        return found

    async def _read(self, indices: Any) -> _Run:
        fresh = ~self._hashed[indices]
        if not fresh.any():
            return _Run(indices, None)
        buffer = await self._load(indices)
        if self._cache is not None:
            new = indices[fresh]
            self._cache.remember(self._files, new, self._places.digests[new], now_ns=self._now_ns)
        return _Run(indices, buffer)

    async def _load(self, indices: Any) -> mmap:
        """Read files into a buffer with room for a pack's footer; digests that were known must come out again."""
        size = size_with(len(indices), int(self._sizes[indices].sum()))
        buffer = self._buffers.take(size)
        digests = await self._blocking(partial(read_segment, self._files, indices.tolist(), memoryview(buffer)))
        known = self._hashed[indices]
        if (digests[known] != self._places.digests[indices[known]]).any():
            raise Changed("a file changed without a trace in its times while it was pushed", hint="run it again")
        self._places.digests[indices] = digests
        return buffer

    def _free(self, run: _Run) -> None:
        if run.buffer is not None:
            self._buffers.give(run.buffer)
            run.buffer = None

    async def _place(self, run: _Run, *, alone: bool) -> None:
        """Give the files of a run their places: in the parent, in packs of this push, or in a pack of their own."""
        fresh = np.ones(len(run.indices), dtype=bool) if run.buffer is None else ~self._reuse(run.indices)
        mine = run.indices[fresh]
        first = self._places.first_of_each(mine)
        data = int(self._sizes[mine[first]].sum())
        if len(mine) == len(run.indices) and first.all() and (alone or data * 2 >= PACK_TARGET):
            await self._send_run(run)
        elif first.any():
            run.buffer = run.buffer or await self._load(run.indices)
            await self._add_to_rest(run, set(mine[first].tolist()))
            self._free(run)
        else:
            self._free(run)
        copies = mine[~first]
        self._places.like_others(copies)
        self._uploads.done.reused_bytes += int(self._sizes[copies].sum())
        self._done(copies)

    async def _send_run(self, run: _Run) -> None:
        """Send a run as it is: its buffer becomes the pack, no byte is moved."""
        sizes = self._sizes[run.indices]
        digests = map(bytes, self._places.digests[run.indices])
        end, data = footer(list(zip(digests, sizes.tolist(), strict=True))), int(sizes.sum())
        ref = PackRef(pack_id(end), data + len(end))
        self._places.in_pack(run.indices, self._places.new_pack(ref), np.cumsum(sizes) - sizes)
        self._done(run.indices)

        async def content() -> memoryview:
            run.buffer = run.buffer or await self._load(run.indices)
            run.buffer[data : ref.size] = end
            return memoryview(run.buffer)[: ref.size]

        await self._uploads.pack(ref, content, look_first=run.buffer is None, after=lambda: self._free(run))

    async def _add_to_rest(self, run: _Run, wanted: set[int]) -> None:
        assert run.buffer is not None  # noqa: S101 - read before
        at, view = 0, memoryview(run.buffer)
        for index in run.indices.tolist():
            size = self._files.sizes[index]
            if index in wanted:
                await self._add_blob(index, view[at : at + size])
            at += size
        view.release()
        self._place_rest()

    async def _add_blob(self, index: int, data: memoryview) -> None:
        if self._rest is not None and not self._rest.fits(len(data), PACK_TARGET):
            await self._close_rest()
        if self._rest is None:
            self._rest = _Rest(self._places.new_pack(None))
        self._rest.indices.append(index)
        self._rest.offsets.append(self._rest.add(self._places.digests[index].tobytes(), data))

    def _place_rest(self) -> None:
        """Place the files that were added since the last time, all at once."""
        if self._rest is not None:
            indices = np.array(self._rest.indices, dtype=np.int64)
            self._places.in_pack(indices, self._rest.ordinal, np.array(self._rest.offsets, dtype=np.int64))
            self._done(indices)
            self._rest.indices.clear()
            self._rest.offsets.clear()

    async def _close_rest(self) -> None:
        self._place_rest()
        rest, self._rest = self._rest, None
        if rest is None:
            return
        ref = rest.close()
        self._places.name_pack(rest.ordinal, ref)

        async def content() -> memoryview:
            return memoryview(rest.data)

        await self._uploads.pack(ref, content, look_first=False)

    async def _large(self, index: int) -> None:
        source = local_file(self._files, index)
        expected = self._places.digests[index].tobytes() if self._hashed[index] else None
        digest, chunks = await self._uploads.large(source, expected, self._known.chunks)
        self._places.in_chunks(index, digest, chunks)
        at = np.array([index])
        self._done(at)
        if self._cache is not None and expected is None:
            self._cache.remember(self._files, at, self._places.digests[at], now_ns=self._now_ns)
