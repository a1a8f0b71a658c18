"""Turning prepared files, one after the other, into packs and chunks in the lake, with bounded memory.

A pack's id follows from the digests and sizes of its blobs. So where digests are known from an earlier try, a pack
that reached the lake then is recognised by one HEAD, and its files are not even read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.known import KnownBlobs, Location
from millrace.datasets.limits import CHUNKED_ABOVE, PACK_TARGET
from millrace.datasets.manifest import PackRef
from millrace.datasets.pack import footer, pack_id, size_with
from millrace.datasets.progress import Meter
from millrace.datasets.sources import Prepared, SourceFile, load
from millrace.datasets.uploads import Uploaded, Uploads
from millrace.objects.port import ObjectStore


@dataclass(slots=True)
class _Open:
    """The pack that is being filled."""

    ordinal: int
    blobs: list[tuple[bytes, int]] = field(default_factory=list)
    contents: list[bytes | SourceFile] = field(default_factory=list)
    data: int = 0


class Packer:
    """Takes prepared files one after the other; `finish` waits until everything is stored."""

    def __init__(
        self, store: ObjectStore, project: str, builder: ManifestBuilder, known: KnownBlobs, meter: Meter
    ) -> None:
        self._builder, self._known, self._meter = builder, known, meter
        self._uploads = Uploads(store, project, meter, dry_run=False)
        self._placed: dict[bytes, tuple[int, int]] = {}
        self._open: _Open | None = None

    async def add(self, item: Prepared) -> None:
        """Take one file."""
        source, digest, data = item.source, item.digest, item.data
        if digest is not None and self._reuse(source, digest):
            return
        if source.size > CHUNKED_ABOVE:
            digest, chunks = await self._uploads.large(source, digest, self._known.chunks)
            self._row(source, digest, chunks=tuple(chunks))
            return
        if digest is None:
            data, digest = await load(source, None)
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
        unread = any(isinstance(content, SourceFile) for content in pack.contents)
        await self._uploads.pack(ref, partial(_bytes_of, pack, end), look_first=unread)

    async def finish(self) -> Uploaded:
        """Store the last pack, wait for all uploads, and return what was done."""
        await self._close_pack()
        return await self._uploads.finish()

    async def abort(self) -> None:
        """Stop all uploads; what is stored already stays, named by its content."""
        await self._uploads.abort()


async def _bytes_of(pack: _Open, end: bytes) -> bytes:
    parts = []
    for content, (digest, _) in zip(pack.contents, pack.blobs, strict=True):
        parts.append((await load(content, digest))[0] if isinstance(content, SourceFile) else content)
    pack.contents.clear()
    return b"".join((*parts, end))
