"""Materialising a version into a folder: the copy near the compute.

Every blob is verified before its file gets a name, and everything is synced before `fill` returns. The staging folder
is private to one owner (its name carries the fencing token) until the caller renames it, so what a crash leaves there
is invisible; a second fill of the same folder keeps the files that are good.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from millrace.datasets.ancestor import Ancestor, link_shared
from millrace.datasets.bounded import Bounded
from millrace.datasets.buffers import Buffers
from millrace.datasets.fetch import (
    Fetched,
    Group,
    Plan,
    check_blob,
    chunk_length,
    fetch_chunk_into,
    fetch_group,
    plan,
)
from millrace.datasets.folders import Part, explain, explained, folder, open_root, write_file
from millrace.datasets.keys import check_project
from millrace.datasets.landing import Failpoint, FillResult, make_durable, no_failpoint
from millrace.datasets.manifest import Entry, Manifest, PackRef
from millrace.datasets.progress import Meter, ProgressCallback
from millrace.datasets.threads import to_the_end
from millrace.datasets.verify import keep_good
from millrace.errors import Corrupt
from millrace.objects.port import ObjectStore


async def fill(
    store: ObjectStore,
    manifest: Manifest,
    staging: Path,
    *,
    project: str,
    progress: ProgressCallback | None = None,
    failpoint: Failpoint | None = None,
    concurrency: int = 4,
    ancestor: Ancestor | None = None,
    resumed: bool = False,
) -> FillResult:
    """Write all files of `manifest` below `staging`: files 0440, folders 0750, all synced.

    Memory stays near `concurrency` packs of at most 48 MiB. `failpoint` is awaited at the points C2 to C6 of a fill.
    What `ancestor` has is linked from its tree and not fetched. `resumed` says that what lies in `staging` came from
    the lake for an earlier fill of the same copy.

    Raises:
        Corrupt: the lake holds other bytes than the manifest promises; nothing of them got a name.
        NoSpace: the disk or a quota is full.
        Conflict: something that is not a folder of ours lies in the way.
        NotFound, Unavailable: an object of the lake is missing or away.
    """
    check_project(project)
    work = _Fill(store, manifest, staging, project, Meter(progress, files=manifest.files, total=manifest.bytes))
    work.failpoint = failpoint or no_failpoint
    work.concurrency, work.ancestor, work.resumed = concurrency, ancestor, resumed
    try:
        with explained(staging):
            work.root = await to_the_end(open_root, staging)
        try:
            return await work.run()
        finally:
            os.close(work.root)
    except OSError as error:
        raise explain(error, staging) from error


class _Fill:
    """One fill under way."""

    root: int
    failpoint: Failpoint
    concurrency: int
    ancestor: Ancestor | None
    resumed: bool

    def __init__(self, store: ObjectStore, manifest: Manifest, staging: Path, project: str, meter: Meter) -> None:
        self.store, self.manifest, self.staging, self.project, self.meter = store, manifest, staging, project, meter
        self.written = self.fetched = self.requests = self.linked = self.linked_bytes = 0
        self.buffers = Buffers()

    async def run(self) -> FillResult:
        kept = await to_the_end(keep_good, self.staging, self.manifest)
        await self.failpoint("fill.C2.after")
        resumed = await to_the_end(self._resumed, kept) if self.resumed else 0
        self.meter.advance(files=len(kept), done=sum(kept.values()))
        await self._fetch_all(await to_the_end(self._missing, kept))
        if self.written + len(kept) != self.manifest.files:
            raise Corrupt(f"{self.written + len(kept)} files were written, and not {self.manifest.files}")
        await make_durable(self.staging, self.failpoint)
        self.meter.finish()
        return FillResult(
            files=self.manifest.files,
            bytes=self.manifest.bytes,
            fetched_bytes=self.fetched + resumed,
            requests=self.requests,
            kept_files=len(kept),
            tree_root=await to_the_end(lambda: self.manifest.tree_root),
            linked_files=self.linked,
            linked_bytes=self.linked_bytes,
            resumed_bytes=resumed,
        )

    def _resumed(self, kept: dict[str, int]) -> int:
        """Return how many bytes of what was kept an earlier fill fetched; what it linked has a second name."""
        return sum(size for path, size in kept.items() if os.lstat(self.staging / path).st_nlink == 1)

    def _missing(self, kept: dict[str, int]) -> Plan:
        """Return how to fetch what is neither here already nor near."""
        rows = np.arange(self.manifest.files)
        if kept:
            rows = rows[[path not in kept for path in self.manifest.paths]]
        if self.ancestor is not None and len(rows):
            linked = link_shared(self.root, self.manifest, rows, self.ancestor)
            sizes = self.manifest.table.column("size").to_numpy()[rows[linked]]
            self.linked, self.linked_bytes = int(linked.sum()), int(sizes.sum())
            self.written += self.linked
            self.meter.advance(files=self.linked, done=self.linked_bytes)
            rows = rows[~linked]
        return plan(self.manifest, rows)

    async def _fetch_all(self, todo: Plan) -> None:
        empty = self.manifest.take(todo.empty)
        await to_the_end(self._write, empty, [b""] * len(empty))
        self._count(empty, 0, 0)
        async with Bounded(self.concurrency) as tasks:
            for pack, rows in todo.packs:
                await tasks.start(partial(self._pack, pack, rows))
        for entry in self.manifest.take(todo.chunked):
            await self._large(entry)

    async def _pack(self, pack: PackRef, rows: Any) -> None:
        group = Group(pack, tuple(self.manifest.take(rows)))
        await self.failpoint("fill.C3.before")
        fetched = await fetch_group(self.store, self.project, group, self.buffers)
        await self.failpoint("fill.C3.after")
        await to_the_end(self._verify_and_write, group, fetched)
        if fetched.buffer is not None:
            self.buffers.give(fetched.buffer)
        await self.failpoint("fill.C4.after")
        self._count(group.entries, fetched.transferred, fetched.requests)

    def _count(self, entries: Iterable[Entry], transferred: int, requests: int) -> None:
        sizes = [entry.size for entry in entries]
        self.written += len(sizes)
        self.fetched += transferred
        self.requests += requests
        self.meter.advance(files=len(sizes), done=sum(sizes), transferred=transferred)

    def _verify_and_write(self, group: Group, fetched: Fetched) -> None:
        for entry, content in zip(group.entries, fetched.contents, strict=True):
            check_blob(entry, content)
        self._write(group.entries, fetched.contents)

    def _write(self, entries: Iterable[Entry], contents: Iterable[bytes | memoryview]) -> None:
        """Write files folder by folder, so that each folder is opened once."""
        by_folder: dict[str, list[tuple[str, bytes | memoryview]]] = {}
        for entry, content in zip(entries, contents, strict=True):
            parent, _, name = entry.path.rpartition("/")
            by_folder.setdefault(parent, []).append((name, content))
        for parent, files in by_folder.items():
            with folder(self.root, parent) as handle:
                for name, content in files:
                    write_file(handle, name, content)

    async def _large(self, entry: Entry) -> None:
        """Write one chunked file: chunks are fetched ahead and appended in order, the whole is checked at the end."""
        parent, _, name = entry.path.rpartition("/")
        with folder(self.root, parent) as handle:
            part = Part(handle, name)
        whole, ahead = blake3(), []
        try:
            for index in range(len(entry.chunks)):
                ahead.append(asyncio.create_task(self._chunk(entry, index)))
                if len(ahead) == 2:
                    await self._append(part, whole, await ahead.pop(0))
            for task in ahead:
                await self._append(part, whole, await task)
            if whole.digest() != entry.digest:
                raise Corrupt(f"the chunks of {entry.path!a} do not make its bytes", path=entry.path)
            part.publish()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
            part.close()
        self.written += 1
        self.meter.advance(files=1)

    async def _chunk(self, entry: Entry, index: int) -> _Chunk:
        await self.failpoint("fill.C3.before")
        size = chunk_length(entry, index)
        chunk = _Chunk(self.buffers.take(size), size)
        await fetch_chunk_into(self.store, self.project, entry, index, chunk.data)
        await self.failpoint("fill.C3.after")
        self.fetched += size
        self.requests += 1
        self.meter.advance(done=size, transferred=size)
        return chunk

    async def _append(self, part: Part, whole: blake3, chunk: _Chunk) -> None:
        await to_the_end(_append, part, whole, chunk.data)
        self.buffers.give(chunk.buffer)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A part of a large file, in a buffer that may be larger."""

    buffer: mmap
    size: int

    @property
    def data(self) -> memoryview:
        return memoryview(self.buffer)[: self.size]


def _append(part: Part, whole: blake3, data: memoryview) -> None:
    whole.update(data)
    part.write(data)
