from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from millrace.datasets.commit import Commit
from millrace.datasets.tree import tree_root
from millrace.errors import Corrupt, Invalid
from millrace.events.datasets import Lineage

ROWS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()),
    st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**40)),
    max_size=8,
)


def rows(files: dict[str, tuple[bytes, int]]) -> list[tuple[str, bytes, int]]:
    return [(path, *files[path]) for path in sorted(files, key=str.encode)]


@given(first=ROWS, second=ROWS)
def test_equal_trees_have_equal_roots_and_others_do_not(first: dict, second: dict) -> None:
    assert (tree_root(rows(first)) == tree_root(rows(second))) == (first == second)


def test_the_root_of_a_tree_never_changes() -> None:
    assert tree_root([("a", b"\1" * 32, 3), ("b/c", b"\2" * 32, 0)]) == (
        blake3(
            b"millrace-tree/1\n\1\0\0\0a" + b"\1" * 32 + b"\3" + bytes(7) + b"\3\0\0\0b/c" + b"\2" * 32 + bytes(8)
        ).hexdigest()
    )


def test_unsorted_or_double_rows_are_refused() -> None:
    row = ("b", bytes(32), 0)
    for bad in ([row, row], [row, ("a", bytes(32), 0)]):
        with pytest.raises(Invalid):
            tree_root(bad)


def commit(**overrides: object) -> Commit:
    values = {
        "parents": ("a" * 64,),
        "root": "b" * 64,
        "manifest": "c" * 64,
        "files": 3,
        "bytes": 10,
        "author": "ada",
        "message": "first ü",
        "time": datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2))),
        "lineage": Lineage(queue="q", parent="a" * 64),
    }
    return Commit.model_validate({**values, **overrides})


def test_a_commit_comes_back_under_its_id() -> None:
    made = commit()
    assert Commit.parse(made.to_bytes(), expect=made.id) == made
    assert made.id == blake3(made.to_bytes()).hexdigest()
    assert json.loads(made.to_bytes())["time"] == "2026-05-01T10:00:00.000000Z"
    assert commit(time=datetime(2026, 5, 1, 10, 0, tzinfo=UTC)).id == made.id
    assert commit(message="other").id != made.id


def test_foreign_bytes_are_no_commit() -> None:
    good = commit().to_bytes()
    with pytest.raises(Corrupt):
        Commit.parse(good, expect="d" * 64)
    for bad in (b"", b"{}", b"[1]", good + b" ", good.replace(b'"files":3', b'"files":-3'), b"\xff", b"[" * 100_000):
        with pytest.raises(Invalid):
            Commit.parse(bad)
    with pytest.raises(Invalid):
        Commit.parse(good.replace(b'"author"', b'"extra":1,"author"'))
    with pytest.raises(Invalid):
        Commit.parse(b" " * 300_000)


GOLDEN = "5a06cf269708eaeca97d6bf281dff8653983852fe503600e0ffb4f059601b04f"


def test_a_commit_without_records_has_the_bytes_it_always_had() -> None:
    assert commit().id == GOLDEN
    assert b"records" not in commit().to_bytes()
    assert Commit.parse(commit().to_bytes()) == commit()


def test_a_commit_names_its_records() -> None:
    named = commit(records="d" * 64)
    assert Commit.parse(named.to_bytes(), expect=named.id).records == "d" * 64
    assert named.id != commit().id
    spelled_out = commit().to_bytes().replace(b'"root"', b'"records":null,"root"')
    with pytest.raises(Invalid, match="canonical"):
        Commit.parse(spelled_out)
