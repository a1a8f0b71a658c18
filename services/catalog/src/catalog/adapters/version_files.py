"""Files of versions, read from packs and chunks by range."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

from blake3 import blake3

from catalog.application.files import VersionFile
from catalog.domain.datasets import Version
from catalog.errors import ObjectMissing
from millrace.datasets.fetch import chunk_length, fetch_chunk
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.limits import CHUNK
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.stored import load_manifest
from millrace.errors import Corrupt, NotFound
from millrace.objects import ObjectStore

REMEMBERED = 4
"""Manifests that are kept in memory: about 120 bytes a file each."""


class LakeFiles:
    """`Files` on one bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._loading = asyncio.Lock()

    async def find(self, version: Version, path: str) -> VersionFile | None:
        """Return a file, or None where the version has none of that path."""
        entry = await self._entry(version, path)
        return None if entry is None else VersionFile(entry.path, entry.size, entry.hex)

    async def read(self, version: Version, path: str, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield bytes of a file, a chunk of at most 16 MiB at a time."""
        entry = await self._entry(version, path)
        if entry is None or not length:
            return
        if entry.pack is not None:
            manifest = await self._manifest(version)
            key = pack_key(version.project, manifest.packs[entry.pack].id)
            data = await self._store.get_range(key, entry.offset + start, length)
            if length == entry.size and blake3(data).digest() != entry.digest:
                raise Corrupt(f"the bytes of {entry.path!a} in the lake do not match their digest", path=entry.path)
            yield data
            return
        for index in range(start // CHUNK, (start + length - 1) // CHUNK + 1):
            first = max(0, start - index * CHUNK)
            last = min(chunk_length(entry, index), start + length - index * CHUNK)
            yield await self._chunk(version.project, entry, index, first, last)

    async def _chunk(self, project: str, entry: Entry, index: int, first: int, last: int) -> bytes:
        if first == 0 and last == chunk_length(entry, index):
            return await fetch_chunk(self._store, project, entry, index)
        return await self._store.get_range(chunk_key(project, entry.chunks[index].hex()), first, last - first)

    async def _entry(self, version: Version, path: str) -> Entry | None:
        manifest = await self._manifest(version)
        row = manifest.find(path)
        return None if row is None else manifest.entry(row)

    async def _manifest(self, version: Version) -> Manifest:
        """Return a version's manifest; one of 600,000 files is read once, however many ask for it together."""
        key = (version.project, version.manifest)
        async with self._loading:
            if key not in self._known:
                try:
                    self._known[key] = await load_manifest(self._store, *key)
                except NotFound:
                    raise ObjectMissing("the manifest is not in the lake", missing=[version.manifest]) from None
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]
