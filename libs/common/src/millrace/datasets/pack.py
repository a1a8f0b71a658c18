"""The pack: many small blobs in one object, self-describing, so that nothing but packs is needed to find a blob.

    blob … blob | index | trailer
    index    one record per blob, in the order of the blobs: BLAKE3 (32), length u64, flags u32   little-endian
    trailer  64 bytes: magic (8), version u16, flags u16, blobs u32, index offset u64, reserved u64, BLAKE3 of index

Blobs lie back to back from offset 0, so offsets follow from lengths. A pack's id is the BLAKE3 of its trailer, which
covers the index by digest, which covers every blob by its own: the id is known before a byte is read, once the blobs'
digests and sizes are, and that is what makes a broken push resume without repeating packs.

A blob's flags say what it is: 0 a file's bytes, 1 a part of a manifest's spare copy (see `spare`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from millrace.datasets.limits import PACK_MAX
from millrace.errors import Corrupt, Invalid

MAGIC = b"MLRPACK\x01"
VERSION = 1
TRAILER = struct.Struct("<8sHHIQQ32s")
RECORD = struct.Struct("<32sQI")

SPARE = 1
"""Flag of a blob that is a part of a manifest's spare copy."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob of a pack: raw BLAKE3 digest, place and length in bytes, and what it is."""

    digest: bytes
    offset: int
    length: int
    flags: int = 0


def footer(blobs: Sequence[tuple[bytes, int]], *, flags: int = 0) -> bytes:
    """Return index and trailer for blobs given as (digest, length) in their order, all of one kind."""
    index = b"".join(RECORD.pack(digest, length, flags) for digest, length in blobs)
    place = sum(length for _, length in blobs)
    return index + TRAILER.pack(MAGIC, VERSION, 0, len(blobs), place, 0, blake3(index).digest())


def pack_id(end: bytes | bytearray | memoryview) -> str:
    """Return a pack's id from its bytes, or from its footer alone."""
    return blake3(end[-TRAILER.size :]).hexdigest()


def size_with(blobs: int, data: int) -> int:
    """Return the size of a pack of so many blobs with `data` bytes altogether."""
    return data + blobs * RECORD.size + TRAILER.size


def index_span(trailer: bytes | bytearray | memoryview, size: int) -> tuple[int, int]:
    """Return (offset, length) of the index, from the last 64 bytes of a pack of `size` bytes.

    Raises:
        Corrupt: not a pack's trailer, or it contradicts the size.
    """
    if len(trailer) != TRAILER.size or not TRAILER.size <= size <= PACK_MAX:
        raise Corrupt(f"not a pack: {size} bytes")
    magic, version, flags, count, place, reserved, _ = TRAILER.unpack(trailer)
    if magic != MAGIC:
        raise Corrupt("not a pack: wrong magic")
    if version != VERSION or flags or reserved:
        raise Invalid(f"a pack of version {version}, flags {flags:#x} is newer than this program")
    if place + count * RECORD.size + TRAILER.size != size:
        raise Corrupt("the pack's trailer contradicts its size")
    return place, count * RECORD.size


def parse_index(end: bytes | bytearray | memoryview, size: int, *, expect: str | None = None) -> list[Blob]:
    """Return the blobs of a pack of `size` bytes from `end`, its last bytes (index and trailer at least).

    Raises:
        Corrupt: the bytes are not those of a pack, or of the pack with id `expect`.
    """
    if expect is not None and pack_id(end) != expect:
        raise Corrupt(f"pack {expect} does not have the trailer that its id promises")
    place, length = index_span(end[-TRAILER.size :], size)
    if len(end) < length + TRAILER.size:
        raise Corrupt("the pack is cut short")
    index = end[len(end) - TRAILER.size - length : len(end) - TRAILER.size]
    if blake3(index).digest() != end[-32:]:
        raise Corrupt("the pack's index is damaged")
    blobs = list(_records(index))
    if (blobs[-1].offset + blobs[-1].length if blobs else 0) != place:
        raise Corrupt("the pack's index contradicts its trailer")
    return blobs


def _records(index: bytes | bytearray | memoryview) -> Iterator[Blob]:
    offset = 0
    for digest, length, flags in RECORD.iter_unpack(index):
        if flags not in {0, SPARE}:
            raise Invalid(f"a blob with flags {flags:#x} is newer than this program")
        if length > PACK_MAX:
            raise Corrupt("a blob is longer than any pack")
        yield Blob(digest, offset, length, flags)
        offset += length


def read_pack(data: bytes | bytearray | memoryview, *, expect: str | None = None) -> list[tuple[Blob, memoryview]]:
    """Return the blobs of a whole pack with their bytes, each verified.

    Raises:
        Corrupt: something does not match its digest.
    """
    blobs = parse_index(data, len(data), expect=expect)
    view = memoryview(data)
    found = [(blob, view[blob.offset : blob.offset + blob.length]) for blob in blobs]
    for blob, content in found:
        if blake3(content).digest() != blob.digest:
            raise Corrupt(f"blob {blob.digest.hex()} at {blob.offset} is damaged")
    return found
