from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from millrace.datasets.push import push_files
from millrace.datasets.sources import SourceFile
from millrace.errors import Corrupt, Invalid, NotFound
from millrace.records import Record, Reference, metadata_text
from millrace.records.record import group
from millrace.records.stored import load_records, records_key, save_records
from millrace.records.table import RecordTable
from millrace.testing.objects import InMemoryObjectStore

FILES = {"a/1.png": b"one", "a/2.png": b"two", "b.csv": b"x,y\n1,2\n"}


def record(path: str, data: bytes = b"", kind: str = "Image", **facts: Any) -> Record:
    return Record(
        path, kind, path, len(data), blake3(data).hexdigest(), "image/png", "s3://b/x", (), metadata_text(facts)
    )


def records() -> list[Record]:
    files = [record(path, data, "Table" if path == "b.csv" else "Image", rows=1) for path, data in FILES.items()]
    members = [Reference("slice", item.id, item.digest, item.size) for item in files[:2]]
    return [*files, group("/series/2.25.7", "CT Image", members, {"slices": 2})]


def test_a_table_is_read_back_as_it_was() -> None:
    table = RecordTable.of(records())
    again = RecordTable.parse(table.to_bytes(), expect=table.id)
    assert list(again.records()) == sorted(records(), key=lambda item: item.id)
    assert again.id == RecordTable.of(reversed(records())).id
    [first] = again.page(limit=1)[0]
    assert (first.id, first.size, first.references[0].link) == ("/series/2.25.7", 6, "a/1.png")


def test_pages_follow_each_other() -> None:
    table = RecordTable.of(records())
    first, after = table.page(kind="Image", limit=1)
    assert after is not None
    second, end = table.page(kind="Image", start=after, limit=1)
    assert ([item.id for item in first + second], end) == (["a/1.png", "a/2.png"], None)
    assert [item.id for item in table.page(path="a/")[0]] == ["a/1.png", "a/2.png"]
    assert table.page(kind="Text") == ([], None)
    assert table.page(start=10**6) == ([], None)
    assert RecordTable.parse(RecordTable.of([]).to_bytes()).page() == ([], None)


def test_a_summary_counts_by_type() -> None:
    found = {item.type: (item.records, item.bytes, item.fields) for item in RecordTable.of(records()).summary()}
    assert found == {"Image": (2, 6, ("rows",)), "CT Image": (1, 6, ("slices",)), "Table": (1, 8, ("rows",))}


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "../x", "id": "../x"},
        {"id": "other"},
        {"path": None, "id": "no-slash"},
        {"type": "lower"},
        {"media_type": "png"},
        {"size": -1},
        {"metadata": "[]"},
        {"metadata": "{"},
        {"metadata": '{"a":"' + "x" * 70_000 + '"}'},
        {"metadata": "[" * 100_000},
        {"source": "s3://b/\n"},
        {"references": (Reference("slice", "/../x", "zz", 1),)},
        {"references": (Reference("slice", "../x", "a" * 64, 1),)},
        {"references": (Reference("Slice\n", "x", "a" * 64, 1),)},
    ],
)
def test_what_breaks_a_rule_is_no_record(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        RecordTable.of([replace(record("x"), **changes)])


def test_double_ids_are_refused() -> None:
    with pytest.raises(Invalid, match="sorted"):
        RecordTable.of([record("x"), record("x")])


def test_other_bytes_are_corrupt_and_other_tables_are_no_records() -> None:
    data = RecordTable.of(records()).to_bytes()
    with pytest.raises(Corrupt):
        RecordTable.parse(data, expect="0" * 64)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("id", pa.string())])) as writer:
        writer.write_table(pa.table({"id": ["x"]}))
    with pytest.raises(Invalid, match="columns"):
        RecordTable.parse(bytes(sink.getvalue()))


@given(st.data())
def test_damaged_tables_are_refused_or_read(data: Any) -> None:
    whole = bytearray(RecordTable.of(records()).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        table = RecordTable.parse(cut)
    except Invalid:
        return
    assert len(list(table.records())) <= len(records())


async def test_records_are_about_the_files_of_their_version() -> None:
    store = InMemoryObjectStore()
    pushed = await push_files(
        [SourceFile.of_bytes(path, data) for path, data in FILES.items()], store, project="default"
    )
    RecordTable.of(records()).check_against(pushed.manifest)
    RecordTable.of([]).check_against(pushed.manifest)
    for stranger in (record("c.png"), record("a/1.png", b"other"), replace(record("a/1.png", b"one"), size=4)):
        with pytest.raises(Invalid):
            RecordTable.of([stranger]).check_against(pushed.manifest)


async def test_tables_lie_in_their_project() -> None:
    store, table = InMemoryObjectStore(), RecordTable.of(records())
    assert await save_records(store, "default", table) == table.id
    assert list(store.objects) == [f"default/records/{table.id}"]
    assert (await load_records(store, "default", table.id)).id == table.id
    with pytest.raises(NotFound):
        await load_records(store, "other", table.id)
    store.objects[records_key("default", table.id)] += b"\0"
    with pytest.raises(Corrupt):
        await load_records(store, "default", table.id)
