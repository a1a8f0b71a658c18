"""Every kind of place behind one port: objects, hosts, mounted folders; archives in each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ingest.adapters.landing_store import StoreLandingPlaces, reader
from ingest.adapters.local_places import local_archive, local_files
from ingest.adapters.spool import Spool
from ingest.adapters.unpacking import unpacked
from ingest.adapters.web_places import WebPlaces
from ingest.application.ports import Batch, Bounds, Landing
from ingest.domain.places import AnyPlace, Format, LocalPlace, Place, Root, WebPlace, shown
from ingest.errors import LandingChanged, LandingTooLarge, NothingLanded
from millrace.objects import ObjectStore


class Places:
    """`LandingPlaces`; archives are unpacked into a spool of at most `spool_bytes` in `spool_folder`."""

    def __init__(
        self,
        stores: Callable[[str], ObjectStore],
        *,
        web: WebPlaces,
        spool_bytes: int,
        spool_folder: Path | None = None,
        roots: Sequence[Root] = (),
    ) -> None:
        self.folders = StoreLandingPlaces(stores)
        self._stores, self._web, self._roots = stores, web, roots
        self._spool_bytes, self._spool_folder = spool_bytes, spool_folder

    async def batches(self, place: Place, *, limit: int) -> Sequence[Batch]:
        """Return the finished batches below a place, at most `limit` of them."""
        return await self.folders.batches(place, limit=limit)

    @asynccontextmanager
    async def open(self, place: AnyPlace, form: Format, bounds: Bounds) -> AsyncIterator[Landing]:
        """Return what lies at a place; its files can be read until the context ends."""
        with Spool(self._spool_bytes, self._spool_folder) as spool:
            if isinstance(place, Place):
                opened = self._archive(place, bounds, spool) if form == "archive" else self._folder(place, bounds)
            elif isinstance(place, LocalPlace):
                opened = self._local(place, form, bounds, spool)
            else:
                opened = self._fetched(place, form, bounds, spool)
            async with opened as landing:
                yield landing

    @asynccontextmanager
    async def _folder(self, place: Place, bounds: Bounds) -> AsyncIterator[Landing]:
        yield await self.folders.list(place, bounds)

    @asynccontextmanager
    async def _archive(self, place: Place, bounds: Bounds, spool: Spool) -> AsyncIterator[Landing]:
        store = self._stores(place.bucket)
        info = await store.head(place.prefix)
        if info is None or info.size == 0:
            raise NothingLanded(f"no archive lies at {place.uri}")
        if info.size > bounds.max_bytes:
            raise LandingTooLarge(f"the archive is larger than {bounds.max_bytes} bytes")
        read = reader(store, place.prefix, info.size)
        mark = f"{info.etag or ''}:{info.modified or ''}"
        async with unpacked(spool, info.size, read, bounds, source=place.uri, mark=mark) as landing:
            after = await store.head(place.prefix)
            if after is None or (after.size, after.etag) != (info.size, info.etag):
                raise LandingChanged("the archive changed while it was read", hint="land data, then announce it")
            yield landing

    @asynccontextmanager
    async def _fetched(self, place: WebPlace, form: Format, bounds: Bounds, spool: Spool) -> AsyncIterator[Landing]:
        if form == "files":
            yield await self._web.files(place, bounds, spool)
            return
        packed = await self._web.archive(place, bounds, spool)
        async with unpacked(spool, packed.size, packed.read, bounds, source=shown(place.uri)) as landing:
            yield landing

    @asynccontextmanager
    async def _local(self, place: LocalPlace, form: Format, bounds: Bounds, spool: Spool) -> AsyncIterator[Landing]:
        if form == "files":
            yield await local_files(place, bounds, self._roots)
            return
        size, read = await local_archive(place, bounds, self._roots)
        async with unpacked(spool, size, read, bounds, source=place.uri) as landing:
            yield landing
