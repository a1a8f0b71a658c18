"""Levels of a tree and changes between two, against what a plain loop over all paths says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.changes import compare
from millrace.datasets.levels import check_prefix, level
from millrace.datasets.manifest import Manifest
from millrace.errors import Invalid

NAMES = st.sampled_from(["a", "a-", "a0", "A", "b", "é", "z z", "a.txt", "~"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def made(files: dict[str, int]) -> Manifest:
    builder = ManifestBuilder()
    for path, seed in files.items():
        builder.add(path, bytes([seed % 256]) * 32, 0, mode=0o644, mtime_ns=0)
    return builder.build()


def tree(paths: list[str]) -> dict[str, int]:
    """Paths of which none stands where another needs a folder, nor differs by case alone."""
    taken: dict[str, int] = {}
    for path in paths:
        folded = path.lower()
        clash = any(
            other.lower() == folded or other.lower().startswith(f"{folded}/") or folded.startswith(f"{other.lower()}/")
            for other in taken
        )
        case = any(
            a.lower() == b.lower() and a != b
            for other in taken
            for a, b in zip(path.split("/"), other.split("/"), strict=False)
        )
        if not clash and not case:
            taken[path] = len(taken) + 1
    return taken


def everything(manifest: Manifest, prefix: str, limit: int) -> tuple[list[tuple[str, int]], list[str]]:
    folders: list[tuple[str, int]] = []
    files: list[str] = []
    after: str | None = None
    for _ in range(1_000):
        page = level(manifest, prefix, after=after, limit=limit)
        assert len(page.folders) + len(page.files) <= limit
        folders += [(folder.name, folder.files) for folder in page.folders]
        files += [entry.path for entry in page.files]
        after = page.next
        if after is None:
            return folders, files
    raise AssertionError("the pages never end")


def plainly(paths: list[str], prefix: str) -> tuple[list[tuple[str, int]], list[str]]:
    below = [path for path in sorted(paths) if path.startswith(prefix)]
    rest = [path[len(prefix) :] for path in below]
    names = sorted({one.split("/")[0] + "/" for one in rest if "/" in one})
    folders = [(name[:-1], sum(one.startswith(name) for one in rest)) for name in names]
    return folders, [path for path, one in zip(below, rest, strict=True) if "/" not in one]


@settings(max_examples=150, deadline=None)
@given(st.lists(PATHS, max_size=40), st.integers(1, 7))
def test_the_pages_of_a_level_are_what_a_loop_over_all_paths_finds(paths: list[str], limit: int) -> None:
    files = tree(paths)
    manifest = made(files)
    prefixes = {""} | {path.rpartition("/")[0] + "/" for path in files if "/" in path}
    for prefix in prefixes:
        assert everything(manifest, prefix, limit) == plainly(list(files), prefix), prefix
        page = level(manifest, prefix, after=None, limit=1)
        assert page.total_files == sum(path.startswith(prefix) for path in files)


def test_a_folder_that_is_not_there_is_empty_and_a_cursor_of_nobody_is_refused() -> None:
    manifest = made({"a/b": 1, "a-/c": 2})
    assert level(manifest, "nothing/", after=None, limit=10).total_files == 0
    assert level(manifest, "a/", after=None, limit=10).files[0].path == "a/b"
    for after in ("", "x", "d/", "g/a", "d/a/b", "f/a/b"):
        with pytest.raises(Invalid):
            level(manifest, "", after=after, limit=10)
    assert [check_prefix(text) for text in ("", "a", "a/")] == ["", "a/", "a/"]
    for prefix in ("/", "/a", "a//", "../", "a/../b", "a\\b", "\0", "\ud800", "x" * 2_000):
        with pytest.raises(Invalid):
            check_prefix(prefix)


@settings(max_examples=100, deadline=None)
@given(st.lists(PATHS, max_size=30), st.integers(0, 2**16))
def test_changes_are_what_two_dictionaries_say_in_path_order(paths: list[str], seed: int) -> None:
    chance = random.Random(seed)
    new = tree(paths)
    old = {path: mark for path, mark in new.items() if chance.random() < 0.7}
    new = {path: mark + 100 if chance.random() < 0.3 else mark for path, mark in new.items() if chance.random() < 0.7}
    before, now = made(old), made(new)
    found = compare(before, now)
    expected = {path: "added" for path in new if path not in old}
    expected |= {path: "removed" for path in old if path not in new}
    expected |= {path: "changed" for path in old if path in new and old[path] != new[path]}
    page = found.page(before, now, found.positions(None, 0, 1_000))
    assert [(change.path, change.kind) for change in page] == sorted(expected.items())
    for kind in ("added", "removed", "changed"):
        wanted = sorted(path for path, what in expected.items() if what == kind)
        assert found.counts[kind].files == len(wanted)
        singles: list[str] = []
        at = 0
        while at_most_one := found.positions(kind, at, 1):
            singles += [change.path for change in found.page(before, now, at_most_one)]
            at = at_most_one[0] + 1
        assert singles == wanted
