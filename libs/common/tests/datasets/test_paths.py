from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.datasets.paths import Refused, check_path, collisions, normalise

GOOD = [
    "a",
    "a/b.png",
    "train/3/img 001.png",
    "Übung/größe.txt",
    ".hidden",
    "a/..b",
    "a/b..",
    "...",
    "a/_READY",
    "日本/画像",
]
BAD = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "..\\a", "C:\\x", "a\0b", "a\nb", "a\x7fb",
    "e\u0301", "\udcff", "x" * 256, "/".join(["abcdefgh"] * 200), "_READY", ".millrace-data/config.json",
]  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
def test_good_paths_pass(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("path", BAD)
def test_bad_paths_are_refused_and_named(path: str) -> None:
    with pytest.raises(Refused) as refusal:
        check_path(path)
    assert ascii(path[:200]) in str(refusal.value)


@given(path=st.text(max_size=40))
def test_what_passes_can_never_leave_the_tree(path: str) -> None:
    try:
        check_path(path)
    except Refused:
        return
    parts = path.split("/")
    assert not path.startswith("/")
    assert all(part not in {"", ".", ".."} for part in parts)
    assert unicodedata.normalize("NFC", path) == path
    assert "\0" not in path
    assert "\\" not in path


@given(path=st.text(max_size=20))
def test_normalising_twice_changes_nothing(path: str) -> None:
    assert normalise(normalise(path)) == normalise(path)


@pytest.mark.parametrize(
    "paths",
    [
        ("a.png", "A.PNG"),
        ("straße", "STRASSE"),
        ("a", "a/b"),
        ("A", "a/b"),
        ("é", "e\u0301"),
        ("a/B/c", "A/b/C"),
        ("x", "x"),
    ],
)
def test_clashes_are_reported(paths: tuple[str, ...]) -> None:
    assert len(collisions(list(paths))) == 1


def test_neighbours_do_not_clash() -> None:
    assert collisions(["a/b", "a/c", "ab", "a-b", "b/a"]) == []
