"""Finding blobs again from packs alone, when no manifest says where they lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.keys import check_project, pack_key, parse_object_key
from millrace.datasets.known import Location
from millrace.datasets.limits import PACK_MAX
from millrace.datasets.manifest import Entry, Manifest, PackRef
from millrace.datasets.pack import TRAILER, Blob, index_span, parse_index
from millrace.errors import Corrupt, NotFound
from millrace.objects.port import ObjectInfo, ObjectStore

AT_ONCE = 16


async def pack_blobs(store: ObjectStore, project: str, pack: str, size: int) -> list[Blob]:
    """Return the blobs that a pack of `size` bytes says it holds; only its footer is read.

    Raises:
        Corrupt: it is not a pack, or not the one that its name says.
    """
    key = pack_key(project, pack)
    if not TRAILER.size <= size <= PACK_MAX:
        raise Corrupt(f"{key} of {size} bytes is not a pack")
    trailer = await store.get_range(key, size - TRAILER.size, TRAILER.size)
    place, length = index_span(trailer, size)
    index = await store.get_range(key, place, length) if length else b""
    return parse_index(index + trailer, size, expect=pack)


async def rebuild_index(
    store: ObjectStore, project: str, packs: Iterable[str] | None = None
) -> dict[tuple[bytes, int], Location]:
    """Return (digest, size) → location, from the footers of `packs`, or of all packs of the project.

    Raises:
        Corrupt: a pack is damaged.
        NotFound: a named pack is missing.
    """
    found: dict[tuple[bytes, int], Location] = {}
    room = asyncio.Semaphore(AT_ONCE)

    async def one(info: ObjectInfo) -> None:
        async with room:
            pack = parse_object_key(info.key)[2]
            files = (blob for blob in await pack_blobs(store, project, pack, info.size) if not blob.flags)
            for blob in files:
                found.setdefault((blob.digest, blob.length), Location(PackRef(pack, info.size), blob.offset, ()))

    infos = [info async for info in _infos(store, project, packs)]
    await asyncio.gather(*(one(info) for info in infos))
    return found


async def _infos(store: ObjectStore, project: str, packs: Iterable[str] | None) -> AsyncIterator[ObjectInfo]:
    if packs is None:
        async for listed in store.list(f"{check_project(project)}/packs/"):
            yield listed
        return
    for pack in packs:
        info = await store.head(pack_key(project, pack))
        if info is None:
            raise NotFound(f"no such pack: {pack}")
        yield info


def relocate(entries: Iterable[Entry], index: dict[tuple[bytes, int], Location]) -> Manifest:
    """Return a manifest of `entries` whose packed files lie where `index` says; chunks and empty files stay.

    Raises:
        NotFound: a file's bytes lie in no pack of the index.
    """
    builder = ManifestBuilder()
    for entry in entries:
        if entry.chunks or not entry.size:
            builder.add_entry(entry, None)
            continue
        location = index.get((entry.digest, entry.size))
        if location is None or location.pack is None:
            raise NotFound(f"the bytes of {entry.path!a} lie in no pack")
        builder.add(
            entry.path,
            entry.digest,
            entry.size,
            mode=entry.mode,
            mtime_ns=entry.mtime_ns,
            pack=builder.pack(location.pack),
            offset=location.offset,
        )
    return builder.build()
