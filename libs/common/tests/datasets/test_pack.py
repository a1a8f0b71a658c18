from __future__ import annotations

import struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from millrace.datasets.limits import PACK_MAX
from millrace.datasets.pack import (
    MAGIC,
    RECORD,
    TRAILER,
    footer,
    index_span,
    pack_id,
    parse_index,
    read_pack,
    size_with,
)
from millrace.errors import Corrupt, Invalid, MillraceError

BLOBS = st.lists(st.binary(max_size=200), max_size=20)


def make(blobs: list[bytes]) -> bytes:
    return b"".join(blobs) + footer([(blake3(blob).digest(), len(blob)) for blob in blobs])


@given(blobs=BLOBS)
def test_what_is_packed_is_read(blobs: list[bytes]) -> None:
    data = make(blobs)
    assert len(data) == size_with(len(blobs), sum(map(len, blobs)))
    assert [bytes(content) for _, content in read_pack(data, expect=pack_id(data))] == blobs


@given(blobs=BLOBS)
def test_the_id_needs_no_bytes_and_the_footer_is_enough(blobs: list[bytes]) -> None:
    data = make(blobs)
    end = footer([(blake3(blob).digest(), len(blob)) for blob in blobs])
    assert pack_id(end) == pack_id(data)
    assert parse_index(end, len(data), expect=pack_id(data)) == [blob for blob, _ in read_pack(data)]


@given(blobs=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), data=st.data())
def test_any_flipped_bit_is_noticed(blobs: list[bytes], data: st.DataObject) -> None:
    good = make(blobs)
    bad = bytearray(good)
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MillraceError):
        read_pack(bytes(bad), expect=pack_id(good))


@given(blobs=st.lists(st.binary(max_size=50), min_size=1, max_size=5), data=st.data())
def test_a_cut_pack_is_noticed(blobs: list[bytes], data: st.DataObject) -> None:
    good = make(blobs)
    cut = good[: data.draw(st.integers(0, len(good) - 1))]
    with pytest.raises(MillraceError):
        read_pack(cut, expect=pack_id(good))


@given(noise=st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(MillraceError):
        read_pack(noise)


def lying(index: bytes, place: int, *, count: int | None = None, version: int = 1, flags: int = 0) -> bytes:
    records = len(index) // RECORD.size if count is None else count
    return index + TRAILER.pack(MAGIC, version, flags, records, place, 0, blake3(index).digest())


@pytest.mark.parametrize(
    ("end", "size", "error"),
    [
        (lying(RECORD.pack(b"x" * 32, 2**63, 0), 0), 44 + 64, Corrupt),
        (lying(RECORD.pack(b"x" * 32, 10, 0), 5), 5 + 44 + 64, Corrupt),
        (lying(RECORD.pack(b"x" * 32, 0, 7), 0), 44 + 64, Invalid),
        (lying(b"", 2**64 - 1), 64, Corrupt),
        (lying(b"", 0, count=2**32 - 1), 64, Corrupt),
        (lying(b"", 0, version=2), 64, Invalid),
        (lying(b"", 0, flags=1), 64, Invalid),
        (lying(b"", 0), PACK_MAX + 1, Corrupt),
        (b"short", 5, Corrupt),
        (b"", 0, Corrupt),
    ],
)
def test_lying_footers_are_refused(end: bytes, size: int, error: type[MillraceError]) -> None:
    with pytest.raises(error):
        parse_index(end, size)


def test_an_index_that_is_not_there_is_not_believed() -> None:
    trailer = make([b"a", b"b"])[-64:]
    assert index_span(trailer, 2 + 88 + 64) == (2, 88)
    with pytest.raises(Corrupt, match="cut short"):
        parse_index(trailer, 2 + 88 + 64)


def test_the_trailer_is_64_bytes() -> None:
    assert TRAILER.size == 64
    assert struct.calcsize("<32sQI") == RECORD.size == 44
