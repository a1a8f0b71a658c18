"""Columns, images and groups, without any server."""

from __future__ import annotations

import io
import math
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ingest.adapters.columns import BINS, Column, Histogram
from ingest.adapters.images import dimensions
from ingest.adapters.sniff import HEAD_BYTES, kind_of
from ingest.adapters.tables import csv_facts, parquet_facts
from ingest.application.grouping import DICOM, with_groups
from ingest.errors import ContentRefused
from millrace.records import Record, metadata_text
from millrace.records.table import RecordTable

NUMBERS = st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20), max_size=8)


@given(NUMBERS)
def test_a_histogram_counts_every_value(batches: list[list[float]]) -> None:
    histogram, total = Histogram(), 0
    for batch in batches:
        values = np.array(batch)
        histogram.take(values)
        total += int((np.abs(values) < 1e300).sum())
    facts = histogram.facts()
    assert (facts is None) == (total == 0)
    if facts is not None:
        assert sum(facts["counts"]) == total
        assert len(facts["counts"]) <= BINS


def test_a_histogram_has_the_shape_of_its_values() -> None:
    rng = np.random.default_rng(3)
    histogram, everything = Histogram(), rng.normal(size=50_000)
    for batch in np.split(everything, 50):
        histogram.take(batch)
    facts = histogram.facts()
    assert facts is not None
    edges = [facts["start"] + index * facts["width"] for index in range(len(facts["counts"]) + 1)]
    wanted, _ = np.histogram(everything, bins=edges)
    assert np.abs(np.array(facts["counts"]) - wanted).sum() < 10


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=60))
def test_a_column_counts_nulls_and_distinct_values(values: list[int | None]) -> None:
    column = Column("n", pa.int64())
    for start in range(0, len(values), 7):
        column.take(pa.array(values[start : start + 7], pa.int64()))
    facts = column.facts()
    known = [value for value in values if value is not None]
    assert (facts["count"], facts["nulls"]) == (len(values), len(values) - len(known))
    assert facts["distinct"] == len({float(value) for value in known})
    if known:
        assert facts["min"] == pytest.approx(min(known))


def test_many_distinct_values_are_estimated() -> None:
    column = Column("n", pa.int64())
    for start in range(0, 200_000, 10_000):
        column.take(pa.array(range(start, start + 10_000)))
        column.take(pa.array(range(start, start + 10_000)))
    assert column.facts()["distinct"] == pytest.approx(200_000, rel=0.12)


def test_a_wide_table_still_fits_into_a_record() -> None:
    names = [f"column-{index}" for index in range(1_500)]
    text = ",".join(names) + "\n" + "\n".join(",".join(str(row + index) for index in range(1_500)) for row in range(20))
    facts = csv_facts(io.BytesIO(text.encode()), delimiter=",")
    assert facts is not None
    assert '"column_count":1500' in facts


def test_strange_numbers_are_no_error() -> None:
    column = Column("x", pa.float64())
    column.take(pa.array([math.nan, math.inf, -math.inf, 1e308, -1e308, None, 0.0]))
    facts = column.facts()
    assert (facts["count"], facts["nulls"]) == (7, 1)
    metadata_text(facts)


def test_a_repeated_text_is_not_unfolded() -> None:
    """A hostile file of few bytes: one text of a megabyte, repeated a million times."""
    long = "x" * (1 << 20)
    table = pa.table({"t": pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array([long]))})
    out = io.BytesIO()
    pq.write_table(table, out)
    assert len(out.getvalue()) < 4 << 20
    assert '"longest":1048576' in parquet_facts(io.BytesIO(out.getvalue()))


@given(st.data())
def test_damaged_parquet_is_refused_or_read(data: st.DataObject) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(100)), "b": ["x", "y"] * 50}), out)
    damaged = bytearray(out.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        parquet_facts(io.BytesIO(bytes(damaged)))
    except ContentRefused:
        return


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_dimensions_are_what_a_decoder_says(form: str, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (123, 45)).save(out, form)
    head = out.getvalue()[:HEAD_BYTES]
    kind = kind_of(head, "x")
    assert kind.type == "Image"
    facts = dimensions(head, kind.media_type)
    assert (facts["width"], facts["height"]) == (123, 45)


@given(st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/bmp", "image/tiff", "image/webp"]), st.binary())
def test_no_bytes_break_the_reading_of_dimensions(media_type: str, data: bytes) -> None:
    for head in (data, b"\xff\xd8" + data, b"II*\0" + data, b"RIFF\0\0\0\0WEBPVP8L" + data):
        assert set(dimensions(head, media_type)) <= {"width", "height", "bits", "channels"}


def test_an_absurd_image_has_no_dimensions() -> None:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 2**31, 2**31, 8, 0, 0, 0, 0)
    assert dimensions(head, "image/png") == {}


def dicom(path: str, kind: str, **facts: object) -> Record:
    return Record(path, kind, path, 10, "a" * 64, DICOM, "", (), metadata_text({"study": "2.25.1", **facts}))


def test_plans_refer_to_structures_and_structures_to_the_scan() -> None:
    where = {"orientation": [1, 0, 0, 0, 1, 0]}
    found = [
        dicom("a", "CT Slice", series="2.25.2", instance="2.25.21", position=[0, 0, 4], number=1, **where),
        dicom("b", "CT Slice", series="2.25.2", instance="2.25.22", position=[0, 0, 1], number=2, **where),
        dicom("s", "RT Structure Set", series="2.25.3", instance="2.25.31", refers=["2.25.2"]),
        dicom("p", "RT Plan", series="2.25.4", instance="2.25.41", refers=["2.25.31"]),
        dicom("d", "RT Dose", series="2.25.5", instance="2.25.51", refers=["2.25.41", "2.25.99"]),
        Record("x.txt", "Text", "x.txt", 1, "b" * 64, "text/plain"),
    ]
    records = {record.id: record for record in RecordTable.of(with_groups(found)).records()}
    links = {name: [(link.role, link.link) for link in record.references] for name, record in records.items()}
    assert links == {
        "/series/2.25.2": [("slice", "b"), ("slice", "a")],
        "/studies/2.25.1": [("image", "/series/2.25.2"), ("structures", "s"), ("plan", "p"), ("dose", "d")],
        "a": [],
        "b": [],
        "d": [("plan", "p")],
        "p": [("structures", "s")],
        "s": [("image", "/series/2.25.2")],
        "x.txt": [],
    }
    assert records["/series/2.25.2"].facts()["scan_length"] == 3
