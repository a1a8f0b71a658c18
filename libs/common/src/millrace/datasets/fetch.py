"""Getting blobs out of the lake: few requests, every byte checked against the digest that the manifest promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

import numpy as np
import pyarrow.compute as pc
from blake3 import blake3

from millrace.datasets.buffers import Buffers
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.limits import CHUNK
from millrace.datasets.manifest import Entry, Manifest, PackRef
from millrace.datasets.threads import to_the_end
from millrace.errors import Corrupt
from millrace.objects.port import ObjectStore
from millrace.objects.ranges import coalesce

WHOLE_ABOVE = 0.6
"""A pack of which at least this share is wanted is fetched whole."""


@dataclass(frozen=True, slots=True)
class Group:
    """Files whose bytes lie in one pack, sorted by offset."""

    pack: PackRef
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to fetch files, by their positions in the manifest: those of each pack by offset, chunked and empty ones."""

    packs: tuple[tuple[PackRef, Any], ...]
    chunked: Any
    empty: Any


def plan(manifest: Manifest, rows: Any) -> Plan:
    """Return how to fetch the files at `rows` (numpy positions) of `manifest`."""
    ordinals = pc.fill_null(manifest.table.column("pack"), -1).to_numpy()[rows]
    offsets = pc.fill_null(manifest.table.column("offset"), 0).to_numpy()[rows]
    sizes = manifest.table.column("size").to_numpy()[rows]
    packed = np.flatnonzero(ordinals >= 0)
    order = packed[np.lexsort((offsets[packed], ordinals[packed]))]
    starts = np.flatnonzero(np.diff(ordinals[order], prepend=-1))
    packs = tuple(
        (manifest.packs[int(ordinals[part[0]])], rows[part]) for part in np.split(order, starts[1:]) if len(part)
    )
    return Plan(packs, rows[(ordinals < 0) & (sizes > 0)], rows[(ordinals < 0) & (sizes == 0)])


@dataclass(frozen=True, slots=True)
class Fetched:
    """Blobs that came, not verified yet, in the order of the group's entries; what went over the wire."""

    contents: Sequence[bytes | memoryview]
    transferred: int
    requests: int
    buffer: mmap | None = None


async def fetch_group(store: ObjectStore, project: str, group: Group, buffers: Buffers | None = None) -> Fetched:
    """Fetch a group: the whole pack, or joined ranges where little of it is wanted.

    A whole pack goes into one of `buffers`, for the caller to give back once the contents are used up; without them
    into one of its own.

    Raises:
        NotFound, Unavailable: what their names say.
        Corrupt: the pack does not have the size that the manifest says.
    """
    key = pack_key(project, group.pack.id)
    ranges = [(entry.offset, entry.size) for entry in group.entries]
    if sum({entry.offset: entry.size for entry in group.entries}.values()) >= WHOLE_ABOVE * group.pack.size:
        buffer = (buffers or Buffers()).take(group.pack.size)
        view = memoryview(buffer)[: group.pack.size]
        size = await store.get_into(key, view)
        if size != group.pack.size:
            raise Corrupt(f"pack {group.pack.id} has {size} bytes and not {group.pack.size}")
        return Fetched([view[start : start + length] for start, length in ranges], size, 1, buffer)
    spans = coalesce(ranges)
    contents = await store.get_ranges(key, ranges)
    return Fetched(contents, sum(span.length for span in spans), len(spans))


def check_blob(entry: Entry, content: bytes | memoryview) -> None:
    """Raise `Corrupt` unless `content` is the bytes of `entry`."""
    if len(content) != entry.size or blake3(content).digest() != entry.digest:
        raise Corrupt(f"the bytes of {entry.path!a} in the lake do not match their digest", path=entry.path)


def chunk_length(entry: Entry, index: int) -> int:
    """Return the size of a chunk of a large file."""
    return min(CHUNK, entry.size - index * CHUNK)


async def fetch_chunk(store: ObjectStore, project: str, entry: Entry, index: int) -> bytes:
    """Return one chunk of a large file, verified.

    Raises:
        Corrupt: it does not match its digest or its place.
    """
    data = await store.get(chunk_key(project, entry.chunks[index].hex()))
    _check_chunk(entry, index, data)
    return data


async def fetch_chunk_into(store: ObjectStore, project: str, entry: Entry, index: int, buffer: memoryview) -> None:
    """Fill `buffer`, which has the chunk's length, with one chunk of a large file, verified in a thread.

    Raises:
        Corrupt: it does not match its digest or its place.
    """
    size = await store.get_into(chunk_key(project, entry.chunks[index].hex()), buffer)
    if size != len(buffer):
        raise Corrupt(f"chunk {index} of {entry.path!a} has {size} bytes and not {len(buffer)}", path=entry.path)
    await to_the_end(_check_chunk, entry, index, buffer)


def _check_chunk(entry: Entry, index: int, data: bytes | memoryview) -> None:
    """Raise `Corrupt` unless `data` is that chunk of `entry`."""
    if len(data) != chunk_length(entry, index) or blake3(data).digest() != entry.chunks[index]:
        raise Corrupt(f"chunk {index} of {entry.path!a} does not match its digest", path=entry.path)


def chunk_pieces(entry: Entry, start: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Yield (chunk, first, last) of what a range of a large file touches; positions count within the chunk."""
    if not length:
        return
    for index in range(start // CHUNK, (start + length - 1) // CHUNK + 1):
        first = max(0, start - index * CHUNK)
        yield index, first, min(chunk_length(entry, index), start + length - index * CHUNK)


async def read_part(
    store: ObjectStore, project: str, manifest: Manifest, entry: Entry, *, start: int, length: int
) -> AsyncIterator[bytes]:
    """Yield `length` bytes of a file from `start`, at most a chunk at a time; what is read whole is verified.

    Raises:
        Corrupt: a blob or a chunk that was read whole does not match its digest.
        NotFound, Unavailable: what their names say.
    """
    if not length:
        return
    if entry.pack is not None:
        data = await store.get_range(pack_key(project, manifest.packs[entry.pack].id), entry.offset + start, length)
        if length == entry.size:
            check_blob(entry, data)
        yield data
        return
    for index, first, last in chunk_pieces(entry, start, length):
        if first == 0 and last == chunk_length(entry, index):
            yield await fetch_chunk(store, project, entry, index)
        else:
            yield await store.get_range(chunk_key(project, entry.chunks[index].hex()), first, last - first)
