"""The spare copy of a manifest, inside packs: whoever has the packs can read which version holds what.

A manifest is the one object without which a version's bytes have no names. Its bytes are therefore kept a second time,
cut into parts that are blobs of packs of their own, flagged as what they are:

    part     header | slice of the manifest's bytes
    header   magic (8), manifest id (32), size of the whole u64, offset of the slice u64      little-endian

The packs follow from the manifest's bytes alone, so a manifest that is stored again makes no second copy.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass

from blake3 import blake3

from millrace.datasets.keys import pack_key, parse_object_key
from millrace.datasets.limits import CHUNK, MAX_MANIFEST
from millrace.datasets.pack import RECORD, SPARE, TRAILER, Blob, footer, index_span, pack_id, parse_index
from millrace.errors import Corrupt, MillraceError
from millrace.objects.port import ObjectInfo, ObjectStore

MAGIC = b"MLRSPAR\x01"
HEADER = struct.Struct("<8s32sQQ")
PART = CHUNK
PACKED = 2
"""Parts in one pack: 32 MiB."""
AT_ONCE = 16
LONGEST_END = PACKED * RECORD.size + TRAILER.size


def spare_packs(manifest: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (pack id, pack) of the spare copy of the manifest with this id and these bytes."""
    offsets = range(0, len(data), PART)
    for first in range(0, len(offsets), PACKED):
        parts = [_part(manifest, data, offset) for offset in offsets[first : first + PACKED]]
        end = footer([(blake3(part).digest(), len(part)) for part in parts], flags=SPARE)
        yield pack_id(end), b"".join((*parts, end))


def _part(manifest: str, data: bytes, offset: int) -> bytes:
    return HEADER.pack(MAGIC, bytes.fromhex(manifest), len(data), offset) + data[offset : offset + PART]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part lies, and what its header says."""

    pack: str
    blob: Blob
    total: int
    offset: int


class Spares:
    """The spare copies that a project's packs hold: found by their footers, read only when they are wanted."""

    def __init__(self, store: ObjectStore, project: str) -> None:
        self._store = store
        self._project = project
        self._places: dict[str, dict[int, _Place]] = defaultdict(dict)
        self.packs = 0
        """Packs that were looked into."""
        self.damaged: list[str] = []
        """Packs whose footer could not be read."""

    async def scan(self) -> None:
        """Look into the footer of every pack of the project."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(info: ObjectInfo) -> None:
            async with room:
                await self._look(info)

        async for batch in _batches(self._store.list(f"{self._project}/packs/")):
            await asyncio.gather(*(one(info) for info in batch))

    async def _look(self, info: ObjectInfo) -> None:
        self.packs += 1
        pack = parse_object_key(info.key)[2]
        try:
            blobs = [blob for blob in await self._blobs(pack, info.size) if blob.flags == SPARE]
            for blob in blobs:
                await self._remember(pack, blob)
        except MillraceError as error:
            if error.transient:
                raise
            self.damaged.append(pack)

    async def _blobs(self, pack: str, size: int) -> list[Blob]:
        """Return a pack's blobs, or none where there are more than a spare copy's pack has."""
        tail = min(size, LONGEST_END)
        end = await self._store.get_range(pack_key(self._project, pack), size - tail, tail)
        _, length = index_span(end[-TRAILER.size :], size)
        return parse_index(end, size, expect=pack) if length <= PACKED * RECORD.size else []

    async def _remember(self, pack: str, blob: Blob) -> None:
        if blob.length < HEADER.size:
            raise Corrupt(f"pack {pack} holds a part without a header")
        head = await self._store.get_range(pack_key(self._project, pack), blob.offset, HEADER.size)
        magic, manifest, total, offset = HEADER.unpack(head)
        if magic != MAGIC or total > MAX_MANIFEST:
            raise Corrupt(f"pack {pack} holds a part that is none")
        self._places[manifest.hex()][offset] = _Place(pack, blob, total, offset)

    async def read(self, manifest: str) -> bytes | None:
        """Return the bytes of a manifest from its parts, verified; None where parts are missing or damaged."""
        places = self._places.get(manifest)
        if not places:
            return None
        pieces = []
        reached = 0
        for place in (places[offset] for offset in sorted(places)):
            if place.offset != reached:
                return None
            pieces.append(await self._piece(place))
            reached += len(pieces[-1])
        data = b"".join(pieces)
        return data if blake3(data).hexdigest() == manifest else None

    async def _piece(self, place: _Place) -> bytes:
        length = place.blob.length - HEADER.size
        return await self._store.get_range(pack_key(self._project, place.pack), place.blob.offset + HEADER.size, length)


async def _batches(infos: AsyncIterable[ObjectInfo], size: int = 256) -> AsyncIterator[list[ObjectInfo]]:
    batch: list[ObjectInfo] = []
    async for info in infos:
        batch.append(info)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
