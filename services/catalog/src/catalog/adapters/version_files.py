"""Files of versions, read from packs and chunks by range."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

from catalog.application.files import VersionFile
from catalog.domain.datasets import Version
from catalog.errors import ObjectMissing
from millrace.datasets.fetch import read_part
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.stored import load_manifest
from millrace.errors import NotFound
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
        if entry is None:
            return
        manifest = await self._manifest(version)
        parts = read_part(self._store, version.project, manifest, entry, start=start, length=length)
        async for data in parts:
            yield data

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
