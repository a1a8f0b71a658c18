"""What a check says of a version: right, without values of cells, in bounded time, whatever the file is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.checks import parse_checks
from millrace.checks.apart import TOO_MUCH, judge_apart
from millrace.checks.document import ColumnRule, TableRule, checks_from
from millrace.checks.evaluate import check_attested, check_listing, judge_table
from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.manifest import Manifest
from millrace.errors import Invalid
from millrace.records import Record, metadata_text
from millrace.records.table import RecordTable


def manifest(*paths: str, size: int = 10) -> Manifest:
    builder = ManifestBuilder()
    for path in paths:
        builder.add(path, bytes(32), 0 if size == 0 else size, mode=0o644, mtime_ns=0, chunks=(bytes(32),))
    return builder.build()


def said(rule: dict[str, Any], *paths: str, records: RecordTable | None = None) -> list[str]:
    checks = checks_from({"checks": [{"name": "c", **rule}]})
    return [str(failure) for failure in check_listing(checks, manifest(*paths), records)]


SPLIT = ["train/p1_a.png", "train/p1_b.png", "train/p2_a.png", "val/p3_a.png", "labels.csv"]


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ({"files": {"min": 5, "max": 5}}, []),
        ({"files": {"min": 6}}, ["c: 5 files, less than 6"]),
        ({"files": {"match": ["train/"], "max": 2}}, ["c: 3 files, more than 2"]),
        ({"files": {"match": ["*.csv", "val/"], "min": 2}}, []),
        ({"bytes": {"match": ["*.png"], "max": 40}}, []),
        ({"bytes": {"max": 49}}, ["c: 50 bytes, more than 49"]),
        ({"paths": {"allow": ["*.png", "labels.csv"]}}, []),
        ({"paths": {"allow": ["*.png"]}}, ["c: 1 files match no allowed pattern ('labels.csv')"]),
        ({"paths": {"forbid": ["train/*_b.png"]}}, ["c: 1 files match a forbidden pattern ('train/p1_b.png')"]),
        ({"paths": {"require": ["/labels.csv", "test/"]}}, ["c: no file matches 'test/'"]),
        ({"disjoint": {"path": "^(?P<split>train|val)/(?P<group>p[0-9]+)_"}}, []),
        ({"disjoint": {"path": "^(?P<split>train|val|labels)(?P<group>x)"}}, ["c: no file has a split and a group"]),
        ({"table": {"file": "nothing.csv"}}, ["c: the version has no file nothing.csv"]),
        ({"records": {"type": "CT Slice", "min": 1}}, ["c: 0 records of type CT Slice, less than 1"]),
    ],
)
def test_rules_about_paths(rule: dict[str, Any], wrong: list[str]) -> None:
    assert said(rule, *SPLIT) == wrong


def test_a_patient_in_two_splits_is_found() -> None:
    rule = {"disjoint": {"path": "^(?P<split>train|val)/(?P<group>p[0-9]+)_"}}
    assert said(rule, *SPLIT, "val/p1_z.png", "val/p2_z.png") == ["c: 2 groups are in more than one split ('p1', 'p2')"]


def _records() -> RecordTable:
    patients = {"train/1": "anna", "train/2": "ben", "val/1": "anna", "val/2": None}
    return RecordTable.of(
        Record(
            id=path,
            type="Image",
            path=path,
            size=1,
            digest="0" * 64,
            media_type="image/png",
            metadata=metadata_text({"patient": patient, "thickness": 0.1 if path == "val/2" else 1.5}),
        )
        for path, patient in patients.items()
    )


def test_groups_and_ranges_may_come_from_records() -> None:
    rule: dict[str, Any] = {"disjoint": {"path": "^(?P<split>[^/]+)/", "field": "patient", "type": "Image"}}
    assert said(rule, records=_records()) == ["c: 1 groups are in more than one split ('anna')"]
    assert said(rule) == ["c: the version has no records, whose field says the group"]
    rule = {"records": {"type": "Image", "max": 4, "fields": {"thickness": {"min": 1}, "nothing": {"max": 1}}}}
    assert said(rule, records=_records()) == [
        "c: 1 records have no thickness within the range ('val/2')",
        "c: 4 records have no nothing within the range ('train/1', 'train/2', 'val/1')",
    ]


CSV = "id,age,sex,when,flag,note\n1,30,F,2026-01-01,true,x\n2,,M,2026-01-02T10:00:00Z,no,\n2,130,X,soon,7,z\n"


def table(tmp_path: Path, text: str, **columns: Any) -> list[str]:
    path = tmp_path / "x"
    path.write_text(text)
    rule = TableRule(file="labels.csv", columns={name: ColumnRule(**rule) for name, rule in columns.items()})
    return [f"{reason} {places}" for reason, places in judge_table(rule, path)]


def test_cells_of_a_csv(tmp_path: Path) -> None:
    assert table(tmp_path, CSV, id={"type": "integer", "unique": True}) == ["column 'id': 1 values are repeated ()"]
    assert table(tmp_path, CSV, age={"type": "integer", "min": 0, "max": 120, "nulls": 0}) == [
        "column 'age': 1 cells more than 120 ('row 3',)",
        "column 'age': 1 of 3 cells are empty ()",
    ]
    assert table(tmp_path, CSV, age={"nulls": 0.5}, note={}) == []
    assert table(tmp_path, CSV, sex={"values": ["F", "M"]}) == ["column 'sex': 1 cells not an allowed value ('row 3',)"]
    assert table(tmp_path, CSV, when={"type": "date"}) == ["column 'when': 1 cells not of type date ('row 3',)"]
    assert table(tmp_path, CSV, flag={"type": "boolean"}) == ["column 'flag': 1 cells not of type boolean ('row 3',)"]
    assert table(tmp_path, CSV, sex={"max": 3}) == ["column 'sex': 3 cells not a number ('row 1', 'row 2', 'row 3')"]
    assert table(tmp_path, CSV, other={}) == ["no column 'other' ()"]


def test_no_reason_holds_what_a_cell_holds(tmp_path: Path) -> None:
    text = "name\nHans Meier\nHans Meier\n"
    rules: list[dict[str, Any]] = [{"type": "integer"}, {"unique": True}, {"values": ["x"]}, {"min": 0}]
    for rule in rules:
        (reason,) = table(tmp_path, text, name=rule)
        assert "Meier" not in reason


def test_rows_and_columns_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(CSV)
    rule = TableRule.model_validate({"file": "a.csv", "rows": {"min": 4}, "columns": {"id": {}}, "only": True})
    reasons = [reason for reason, _ in judge_table(rule, path)]
    assert reasons == ["5 columns that the check does not know", "3 rows, less than 4"]


def test_cells_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    columns = {
        "id": pa.array([1, 2, 2]),
        "age": pa.array([30.5, None, 130.0]),
        "sex": pa.array(["F", "M", "X"]).dictionary_encode(),
        "flag": pa.array([True, False, None]),
        "when": pa.array([0, 1, 2], pa.timestamp("us")),
        "deep": pa.array([[1], [2], None]),
    }
    pq.write_table(pa.table(columns), path)

    def judged(**rules: Any) -> list[str]:
        rule = TableRule(file="a.parquet", columns={name: ColumnRule(**it) for name, it in rules.items()})
        return [reason for reason, _ in judge_table(rule, path)]

    assert judged(id={"type": "integer", "unique": True}) == ["column 'id': 1 values are repeated"]
    assert judged(age={"type": "number", "max": 120}) == ["column 'age': 1 cells more than 120"]
    assert judged(sex={"values": ["F", "M"]}) == ["column 'sex': 1 cells not an allowed value"]
    assert judged(flag={"type": "boolean", "values": [True, False]}) == []
    assert judged(when={"type": "date"}) == []
    assert judged(when={"type": "integer"}) == ["column 'when': 3 cells not of type integer"]
    assert judged(deep={"type": "text"}) == ["column 'deep': 2 cells not of type text"]


@given(st.binary(max_size=2_000), st.sampled_from(["a.csv", "a.tsv", "a.parquet"]))
def test_any_bytes_get_a_verdict(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("t") / "x"
    path.write_bytes(data)
    rule = {"type": "integer", "min": 1, "unique": True, "nulls": 0.1, "values": [1]}
    judge_table(
        TableRule.model_validate({"file": name, "columns": {"a": rule, "": rule} if False else {"a": rule}}), path
    )


@pytest.mark.parametrize(
    "text",
    [
        "checks: [{name: x}]",
        "checks: [{name: x, files: {min: 1}, bytes: {min: 1}}]",
        "checks: [{name: x, files: {}}]",
        "checks: [{name: x, files: {min: 2, max: 1}}]",
        "checks: [{name: x, files: {min: .nan}}]",
        "checks: [{name: x, files: {min: 1, mtach: [a]}}]",
        "checks: [{name: x, files: {min: 1, match: ['!a']}}]",
        "checks: [{name: x, disjoint: {path: '('}}]",
        "checks: [{name: x, disjoint: {path: '(?P<split>a)'}}]",
        "checks: [{name: x, disjoint: {path: '(?P<split>a)(?=b)(?P<group>c)'}}]",
        "checks: [{name: x, table: {file: ../x.csv}}]",
        "checks: [{name: x, files: {min: 1}}, {name: x, files: {min: 1}}]",
        "checks: 7",
        "- a",
        "a: [",
        "!!python/object/apply:os.system ['true']",
        "x" * 70_000,
        "[" * 20_000,
    ],
)
def test_a_document_that_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Invalid):
        parse_checks(text)


def test_a_document_has_a_digest_that_order_and_form_do_not_change() -> None:
    one = parse_checks("checks:\n- {name: a, files: {min: 1, match: [x]}}\n")
    other = parse_checks('{"checks": [{"files": {"match": ["x"], "min": 1}, "name": "a"}]}')
    assert one.digest == other.digest
    assert checks_from(one.document) == one


def test_programs_are_attested_by_their_text() -> None:
    checks = checks_from({"checks": [{"name": "ours", "python": {"file": "c.py", "blake3": "a" * 64}}]})
    assert check_attested(checks, {"ours": "a" * 64}) == []
    assert [failure.check for failure in check_attested(checks, {"ours": "b" * 64})] == ["ours"]
    assert [failure.check for failure in check_attested(checks, {})] == ["ours"]


async def test_a_table_is_judged_apart(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(CSV)
    rule = TableRule.model_validate({"file": "a.csv", "columns": {"age": {"max": 120}}})
    assert await judge_apart(rule, path) == [("column 'age': 1 cells more than 120", ("row 3",))]


async def test_a_table_that_takes_too_much_fails_the_check(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a\n" + "7\n" * 3_000_000)
    rule = TableRule.model_validate({"file": "a.csv", "columns": {"a": {"unique": True}}})
    assert await judge_apart(rule, path, seconds=0.2) == TOO_MUCH
    assert await judge_apart(rule, path, memory=300 * 1024**2) == TOO_MUCH


async def test_the_child_knows_nothing_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x"
    path.write_text("a\n1\n")
    assert await judge_apart(TableRule.model_validate({"file": "a.csv"}), path) == []
    assert os.environ["PYTHONPATH"] == str(tmp_path)
