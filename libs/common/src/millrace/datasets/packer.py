"""Turning prepared files, one after the other, into packs and chunks in the lake, with bounded memory."""

from __future__ import annotations

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.known import KnownBlobs, Location
from millrace.datasets.limits import PACK_TARGET
from millrace.datasets.open_pack import OpenPack
from millrace.datasets.progress import Meter
from millrace.datasets.sources import Prepared, SourceFile
from millrace.datasets.uploads import Uploaded, Uploads
from millrace.objects.port import ObjectStore


class Packer:
    """Takes prepared files one after the other; `finish` waits until everything is stored."""

    def __init__(
        self, store: ObjectStore, project: str, builder: ManifestBuilder, known: KnownBlobs, meter: Meter
    ) -> None:
        self._builder, self._known, self._meter = builder, known, meter
        self._uploads = Uploads(store, project, meter, dry_run=False)
        self._placed: dict[bytes, tuple[int, int]] = {}
        self._open: OpenPack | None = None

    async def add(self, item: Prepared) -> None:
        """Take one file: a small one with its bytes, a large one to be read."""
        source, digest, data = item.source, item.digest, item.data
        if digest is None or data is None:
            digest, chunks = await self._uploads.large(source, None, self._known.chunks)
            self._row(source, digest, chunks=tuple(chunks))
            return
        if not self._reuse(source, digest):
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
        self._uploads.done.reused_bytes += source.size
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

    async def _add_small(self, source: SourceFile, digest: bytes, data: bytes) -> None:
        if self._open is not None and not self._open.fits(source.size, PACK_TARGET):
            await self._close_pack()
        if self._open is None:
            self._open = OpenPack(self._builder.open_pack())
        offset = self._open.add(digest, data)
        self._placed[digest] = (self._open.ordinal, offset)
        self._row(source, digest, pack=self._open.ordinal, offset=offset)

    async def _close_pack(self) -> None:
        pack, self._open = self._open, None
        if pack is None:
            return
        ref = pack.close()
        self._builder.close_pack(pack.ordinal, ref)

        async def content() -> memoryview:
            return memoryview(pack.data)

        await self._uploads.pack(ref, content, look_first=False)

    async def finish(self) -> Uploaded:
        """Store the last pack, wait for all uploads, and return what was done."""
        await self._close_pack()
        return await self._uploads.finish()

    async def abort(self) -> None:
        """Stop all uploads; what is stored already stays, named by its content."""
        await self._uploads.abort()
