"""Files of versions, read from packs and chunks by range, and what manifests say of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Generic, Protocol, TypeVar

from catalog.application.files import Archive, VersionFile
from catalog.domain.datasets import Version
from catalog.errors import ObjectLost
from millrace.datasets.changes import Change, Changes, Kind, compare
from millrace.datasets.fetch import read_part
from millrace.datasets.levels import Level, level, span
from millrace.datasets.limits import MIB
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.stored import load_manifest
from millrace.datasets.zip_stream import ZipStream
from millrace.errors import Corrupt, Invalid, NotFound
from millrace.objects import ObjectStore

MANIFEST_BYTES = 256 * MIB
"""Manifests that are kept in memory, about 120 bytes a file each; the newest stays, however large."""

CHANGES_BYTES = 32 * MIB


class Sized(Protocol):
    """Something that knows its own size in memory."""

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""


V = TypeVar("V", bound=Sized)


class LakeFiles:
    """`Files` on one bucket."""

    def __init__(self, store: ObjectStore, *, manifest_bytes: int = MANIFEST_BYTES) -> None:
        self._store = store
        self._manifests: Remembered[Manifest] = Remembered(manifest_bytes)
        self._changes: Remembered[Changes] = Remembered(CHANGES_BYTES)
        self._loading = asyncio.Lock()
        self._comparing = asyncio.Lock()

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
        async for data in _from_lake(version, parts):
            yield data

    async def level(self, version: Version, prefix: str, *, after: str | None, limit: int) -> Level:
        """Return a page of what lies right below a prefix."""
        manifest = await self._manifest(version)
        return await asyncio.to_thread(level, manifest, prefix, after=after, limit=limit)

    async def changes(
        self, old: Version, new: Version, *, kind: Kind | None, start: int, limit: int
    ) -> tuple[Changes, list[tuple[int, Change]]]:
        """Return all changes, and a page of them with their positions."""
        before, now = await self._manifest(old), await self._manifest(new)
        key = (old.project, old.manifest, new.manifest)
        async with self._comparing:
            if (found := self._changes.get(key)) is None:
                found = await asyncio.to_thread(compare, before, now)
                self._changes.keep(key, found)
        positions = found.positions(kind, start, limit)
        page = await asyncio.to_thread(found.page, before, now, positions)
        return found, list(zip(positions, page, strict=True))

    async def archive(self, version: Version, prefix: str) -> Archive | None:
        """Return the zip of what lies below a prefix, or None where nothing does."""
        manifest = await self._manifest(version)
        first, last = await asyncio.to_thread(span, manifest, prefix)
        if prefix and first == last:
            return None
        made = await asyncio.to_thread(ZipStream, self._store, version.project, manifest, first, last)
        return LakeArchive(version, made)

    async def _entry(self, version: Version, path: str) -> Entry | None:
        manifest = await self._manifest(version)
        row = manifest.find(path)
        return None if row is None else manifest.entry(row)

    async def _manifest(self, version: Version) -> Manifest:
        """Return a version's manifest; one of 600,000 files is read once, however many ask for it together."""
        key = (version.project, version.manifest)
        async with self._loading:
            if (found := self._manifests.get(key)) is None:
                with _of_the_lake(version):
                    found = await load_manifest(self._store, *key)
                self._manifests.keep(key, found)
        return found


class LakeArchive:
    """A zip on its way: what the lake lacks of it is the lake's fault, and not its reader's."""

    def __init__(self, version: Version, made: ZipStream) -> None:
        self._version, self._made = version, made
        self.length = made.length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the zip; see the port."""
        async for data in _from_lake(self._version, aiter(self._made)):
            yield data


async def _from_lake(version: Version, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with _of_the_lake(version):
        try:
            async for data in parts:
                yield data
        finally:
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()


@contextlib.contextmanager
def _of_the_lake(version: Version) -> Iterator[None]:
    """Let what is missing or cut short in the lake be said as what it is; `NotFound` is what the version has not."""
    what = f"{version.dataset}@{version.version}"
    hint = f"`millrace data verify {what}` names what is damaged"
    try:
        yield
    except NotFound as error:
        raise ObjectLost(f"the lake has lost an object that {what} needs", hint=hint) from error
    except Invalid as error:
        raise Corrupt(f"an object that {what} needs is damaged in the lake", hint=hint) from error


class Remembered(Generic[V]):
    """What was used last, up to a number of bytes; the newest stays, whatever its size."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, ...], V] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> V | None:
        """Return what is kept under a key."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def keep(self, key: tuple[str, ...], value: V) -> None:
        """Keep a value, and forget what has not been used for longest."""
        self._known[key] = value
        while len(self._known) > 1 and sum(one.nbytes for one in self._known.values()) > self._limit:
            self._known.popitem(last=False)
