"""Filling from what is near: trees and packs of another version, and packs instead of trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from millrace.datasets import folder_push, limits
from millrace.datasets.ancestor import Ancestor
from millrace.datasets.fill import fill
from millrace.datasets.keys import pack_key
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.push import push
from millrace.errors import Conflict, Corrupt
from millrace.objects import ObjectStore
from millrace.testing.objects import InMemoryObjectStore

from .helpers import PROJECT, read_tree, write_tree

FILES = {f"{split}/{index:03d}.bin": os.urandom(700) for split in ("train", "test") for index in range(40)}
BIG = {"big": os.urandom(limits.CHUNK + 5)}


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 8_000)


async def pushed(store: ObjectStore, folder: Path, files: dict[str, bytes], parent: Manifest | None = None) -> Manifest:
    write_tree(folder, files)
    return (await push(folder, store, project=PROJECT, parent=parent)).manifest


async def test_what_an_older_tree_has_is_linked_and_not_fetched(lake: ObjectStore, tmp_path: Path) -> None:
    first = await pushed(lake, tmp_path / "a", FILES | BIG)
    new = {**FILES, "train/000.bin": b"changed", "new/moved.bin": FILES["test/003.bin"], "more": b"more"} | BIG
    second = await pushed(lake, tmp_path / "b", new, first)
    await fill(lake, first, tmp_path / "one", project=PROJECT)
    near = Ancestor(tmp_path / "one", first)
    result = await fill(lake, second, tmp_path / "two", project=PROJECT, ancestor=near)
    assert read_tree(tmp_path / "two") == new
    assert result.linked_files == len(new) - 2
    assert result.fetched_bytes < 200
    assert (tmp_path / "two/new/moved.bin").samefile(tmp_path / "one/test/003.bin")
    assert (tmp_path / "two/big").samefile(tmp_path / "one/big")


async def test_what_cannot_be_linked_is_fetched(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    first = await pushed(memory, tmp_path / "a", FILES)
    await fill(memory, first, tmp_path / "one", project=PROJECT)
    (tmp_path / "one/train/001.bin").unlink()
    near = Ancestor(tmp_path / "one", first)
    result = await fill(memory, first, tmp_path / "two", project=PROJECT, ancestor=near)
    assert read_tree(tmp_path / "two") == FILES
    assert (result.linked_files, result.tree_root) == (len(FILES) - 1, first.tree_root)


async def test_a_version_lands_as_packs(lake: ObjectStore, tmp_path: Path) -> None:
    manifest = await pushed(lake, tmp_path / "a", FILES | BIG)
    result = await fill_packs(lake, manifest, tmp_path / "near", project=PROJECT)
    names = {path.name for path in (tmp_path / "near/packs").iterdir()}
    assert names == {ref.id for ref in manifest.packs}
    assert result.fetched_bytes == sum(ref.size for ref in manifest.packs) + len(BIG["big"])
    assert (tmp_path / "near/manifest").read_bytes() == manifest.to_bytes()
    again = await fill_packs(lake, manifest, tmp_path / "near", project=PROJECT)
    assert (again.fetched_bytes, again.kept_files) == (0, len(manifest.packs) + 2)


async def test_packs_of_an_older_version_are_linked(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    first = await pushed(memory, tmp_path / "a", FILES)
    second = await pushed(memory, tmp_path / "b", FILES | {"more": b"more"}, first)
    await fill_packs(memory, first, tmp_path / "one", project=PROJECT)
    result = await fill_packs(memory, second, tmp_path / "two", project=PROJECT, ancestor=tmp_path / "one")
    assert (result.linked_files, result.requests) == (len(first.packs), 1)


async def test_a_damaged_pack_never_gets_its_name(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await pushed(memory, tmp_path / "a", FILES)
    name = manifest.packs[1].id
    key = pack_key(PROJECT, name)
    good = memory.objects[key]
    for bad in (good[:50] + bytes([good[50] ^ 1]) + good[51:], good[:-1], b""):
        memory.objects[key] = bad
        with pytest.raises(Corrupt):
            await fill_packs(memory, manifest, tmp_path / "near", project=PROJECT)
        assert not (tmp_path / "near/packs" / name).exists()
    memory.objects[key] = good
    await fill_packs(memory, manifest, tmp_path / "near", project=PROJECT)
    (tmp_path / "near/packs" / name).chmod(0o640)
    (tmp_path / "near/packs" / name).write_bytes(b"flipped")
    result = await fill_packs(memory, manifest, tmp_path / "near", project=PROJECT)
    assert (tmp_path / "near/packs" / name).read_bytes() == good
    assert result.requests == 1


async def test_packs_are_written_through_no_link(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await pushed(memory, tmp_path / "a", FILES)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "near").symlink_to(outside)
    with pytest.raises(Conflict):
        await fill_packs(memory, manifest, tmp_path / "near", project=PROJECT)
    (tmp_path / "near").unlink()
    (tmp_path / "near").mkdir()
    (tmp_path / "near/packs").symlink_to(outside)
    with pytest.raises(Conflict):
        await fill_packs(memory, manifest, tmp_path / "near", project=PROJECT)
    assert list(outside.iterdir()) == []
