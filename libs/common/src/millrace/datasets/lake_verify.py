"""Reading a version in the lake again, byte by byte, against its manifest. What is damaged is named, not mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3

from millrace.datasets.ahead import in_order
from millrace.datasets.fetch import fetch_chunk, plan
from millrace.datasets.keys import pack_key
from millrace.datasets.known import digests_of
from millrace.datasets.manifest import Entry, Manifest, PackRef
from millrace.datasets.pack import read_pack
from millrace.datasets.progress import Meter, ProgressCallback
from millrace.errors import MillraceError
from millrace.objects.port import ObjectStore

AT_ONCE = 3
"""Packs or chunked files that are read at once; with packs of 48 MiB at most this bounds memory."""


@dataclass(frozen=True, slots=True)
class Damage:
    """An object of the lake that is not what it should be, why, and the paths whose bytes it holds."""

    object: str
    reason: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LakeResult:
    """What was read: files, their bytes, objects; and what is damaged, by object."""

    files: int
    bytes: int
    objects: int
    damaged: tuple[Damage, ...]

    @property
    def clean(self) -> bool:
        """Return whether every byte of the version is there."""
        return not self.damaged


async def verify_lake(
    store: ObjectStore, manifest: Manifest, *, project: str, progress: ProgressCallback | None = None
) -> LakeResult:
    """Read every pack and chunk of a version, and compare each file's bytes with its digest.

    Raises:
        Unavailable, Forbidden: the lake cannot be read at all.
    """
    whole = _Verification(store, manifest, project, progress)
    return await whole.run()


class _Verification:
    def __init__(self, store: ObjectStore, manifest: Manifest, project: str, progress: ProgressCallback | None) -> None:
        self._store, self._manifest, self._project = store, manifest, project
        self._plan = plan(manifest, np.arange(manifest.files))
        self._digests = digests_of(manifest.table)
        self._sizes = manifest.table.column("size").to_numpy()
        self._meter = Meter(progress, files=manifest.files, total=int(self._sizes.sum()))

    async def run(self) -> LakeResult:
        damaged = [damage async for damage in in_order(self._work(), at_once=AT_ONCE) if damage is not None]
        self._meter.finish()
        chunks = len(self._manifest.chunk_ids())
        return LakeResult(
            files=self._manifest.files,
            bytes=int(self._sizes.sum()),
            objects=len(self._plan.packs) + chunks,
            damaged=tuple(damaged),
        )

    async def _work(self) -> AsyncIterator[Coroutine[Any, Any, Damage | None]]:
        for pack, rows in self._plan.packs:
            yield self._pack(pack, rows)
        for row in self._plan.chunked.tolist():
            yield self._chunked(self._manifest.entry(row))

    async def _pack(self, pack: PackRef, rows: Any) -> Damage | None:
        try:
            data = await self._store.get(pack_key(self._project, pack.id))
            wrong = await asyncio.to_thread(self._wrong_rows, data, pack, rows)
        except MillraceError as error:
            if error.transient or error.status == 403:
                raise
            return Damage(f"packs/{pack.id}", error.message, self._paths(rows))
        self._meter.advance(files=len(rows), done=int(self._sizes[rows].sum()), transferred=len(data))
        if len(wrong):
            return Damage(f"packs/{pack.id}", "files do not lie where the manifest says", self._paths(wrong))
        return None

    def _wrong_rows(self, data: bytes, pack: PackRef, rows: Any) -> Any:
        """Return the rows that the pack, every blob of which is verified, does not hold where they should lie."""
        blobs = {(blob.offset, blob.length): blob.digest for blob, _ in read_pack(data, expect=pack.id)}
        offsets = self._manifest.table.column("offset").to_numpy()[rows].tolist()
        places = zip(offsets, self._sizes[rows].tolist(), self._digests[rows], strict=True)
        good = [blobs.get((int(offset), size)) == digest.tobytes() for offset, size, digest in places]
        return rows[~np.array(good, dtype=bool)]

    async def _chunked(self, entry: Entry) -> Damage | None:
        whole = blake3()
        try:
            for index in range(len(entry.chunks)):
                data = await fetch_chunk(self._store, self._project, entry, index)
                await asyncio.to_thread(whole.update, data)
                self._meter.advance(done=len(data), transferred=len(data))
        except MillraceError as error:
            if error.transient or error.status == 403:
                raise
            return Damage("chunks of a file", error.message, (entry.path,))
        self._meter.advance(files=1)
        if whole.digest() != entry.digest:
            return Damage("chunks of a file", "its chunks do not make its bytes", (entry.path,))
        return None

    def _paths(self, rows: Any) -> tuple[str, ...]:
        return tuple(self._manifest.paths[row] for row in rows.tolist())
