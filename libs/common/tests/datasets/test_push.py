from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace.datasets import folder_push, limits, packer, uploads
from millrace.datasets.builder import joined
from millrace.datasets.keys import manifest_key, pack_key
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack import read_pack
from millrace.datasets.paths import Refused
from millrace.datasets.progress import Progress
from millrace.datasets.push import extend, push, push_files, push_part
from millrace.datasets.rebuild import rebuild_index, relocate
from millrace.datasets.scan import scan
from millrace.datasets.sources import Changed, SourceFile
from millrace.datasets.statcache import StatCache
from millrace.datasets.stored import load_manifest
from millrace.errors import Invalid, Unavailable
from millrace.objects import ObjectStore
from millrace.testing.objects import InMemoryObjectStore

from .helpers import PROJECT, digest, write_tree

FILES = {
    "train/0/a.png": b"aaaa",
    "train/1/b.png": b"bb" * 500,
    "train/1/same.png": b"aaaa",
    "holdout/0/c.png": b"c" * 70_000,
    "empty.txt": b"",
    "Übung.txt": b"u",
}


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "PACK_TARGET", 4_096)
    monkeypatch.setattr(folder_push, "PACK_TARGET", 4_096)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_tree(root, FILES)
    return root


async def contents(store: ObjectStore, manifest: Manifest) -> dict[str, bytes]:
    found = {}
    for entry in manifest.entries():
        if entry.pack is not None:
            key = pack_key(PROJECT, manifest.packs[entry.pack].id)
            found[entry.path] = await store.get_range(key, entry.offset, entry.size) if entry.size else b""
        else:
            found[entry.path] = b"".join(
                [await store.get(f"{PROJECT}/chunks/{chunk.hex()[:2]}/{chunk.hex()}") for chunk in entry.chunks]
            )
    return found


async def test_a_folder_becomes_packs_and_a_manifest(lake: ObjectStore, tree: Path) -> None:
    reports: list[Progress] = []
    result = await push(tree, lake, project=PROJECT, progress=reports.append)
    stored = await load_manifest(lake, PROJECT, result.manifest_id)
    assert stored.tree_root == result.tree_root
    assert await contents(lake, stored) == FILES
    assert (result.files, result.bytes) == (len(FILES), sum(map(len, FILES.values())))
    assert len(result.packs) == 1
    assert reports[-1].files_done == reports[-1].files == len(FILES)
    assert reports[-1].bytes_done == reports[-1].bytes == result.bytes
    blobs = read_pack(await lake.get(pack_key(PROJECT, result.packs[0])), expect=result.packs[0])
    assert len(blobs) == 4


async def test_the_same_folder_gives_the_same_objects(memory: InMemoryObjectStore, tree: Path) -> None:
    first = await push(tree, memory, project=PROJECT)
    before = dict(memory.objects)
    second = await push(tree, memory, project=PROJECT)
    assert memory.objects == before
    assert (second.manifest_id, second.packs, second.uploaded_bytes) == (first.manifest_id, first.packs, 0)


async def test_nothing_is_sent_when_nothing_changed(memory: InMemoryObjectStore, tree: Path) -> None:
    first = await push(tree, memory, project=PROJECT)
    memory.requests["put"] = 0
    second = await push(tree, memory, project=PROJECT, parent=first.manifest)
    assert memory.requests["put"] == 0
    assert not second.changed
    assert (second.packs, second.chunks, second.uploaded_bytes) == ((), (), 0)
    assert second.manifest_id == first.manifest_id


async def test_only_what_is_new_is_sent(memory: InMemoryObjectStore, tree: Path) -> None:
    first = await push(tree, memory, project=PROJECT)
    write_tree(tree, {"train/0/new.png": b"new", "train/0/copy.png": FILES["holdout/0/c.png"]})
    (tree / "train/1/b.png").rename(tree / "train/1/moved.png")
    second = await push(tree, memory, project=PROJECT, parent=first.manifest)
    assert second.uploaded_bytes == 3 + 44 + 64
    assert second.changed
    expected = {**FILES, "train/0/new.png": b"new", "train/0/copy.png": FILES["holdout/0/c.png"]}
    expected["train/1/moved.png"] = expected.pop("train/1/b.png")
    assert await contents(memory, second.manifest) == expected


async def test_parts_that_many_push_are_joined(lake: ObjectStore) -> None:
    def part(*paths: str) -> list[SourceFile]:
        return [SourceFile.of_bytes(path, f"bytes of {path}".encode()) for path in paths]

    base = await push_files(part("a", "kept"), lake, project="default")
    sent = [await push_part(part(*paths), lake, project="default") for paths in (("b", "a"), ("c/d",), ())]
    assert [info.key async for info in lake.list("default/manifests/")] == [manifest_key("default", base.manifest_id)]
    whole = joined([one.manifest for one in sent])
    assert whole.paths == ["a", "b", "c/d"]
    assert whole.tree_root == (await push_files(part("a", "b", "c/d"), lake, project="default")).tree_root
    on_top = joined([one.manifest for one in sent], base.manifest)
    assert on_top.paths == ["a", "b", "c/d", "kept"]
    assert {pack.id for pack in on_top.packs} == {pack.id for one in (base, *sent) for pack in one.manifest.packs}, (
        "no pack is written again, and none is lost"
    )
    for clashing in (("a",), ("c",), ("b/x",)):
        with pytest.raises(Refused):
            joined(
                [*(one.manifest for one in sent), (await push_part(part(*clashing), lake, project="default")).manifest]
            )


@pytest.mark.usefixtures("small_packs")
async def test_packs_stay_under_their_target(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    chance = random.Random(5)
    files = {f"{index:03d}": chance.randbytes(chance.randrange(1, 900)) for index in range(100)}
    write_tree(tmp_path / "d", files)
    result = await push(tmp_path / "d", memory, project=PROJECT)
    assert len(result.packs) > 10
    assert all(len(memory.objects[pack_key(PROJECT, pack)]) <= 4_096 for pack in result.packs)
    assert await contents(memory, result.manifest) == files


async def test_large_files_become_chunks_and_share_them(lake: ObjectStore, tmp_path: Path) -> None:
    chance = random.Random(1)
    first, last = chance.randbytes(limits.CHUNK), chance.randbytes(1_000_000)
    files = {"big": first + last, "big2": first + b"other", "twin": first + last, "nine": chance.randbytes(9 << 20)}
    write_tree(tmp_path / "d", files)
    result = await push(tmp_path / "d", lake, project=PROJECT)
    assert len(result.chunks) == 4
    assert result.packs == ()
    assert result.uploaded_bytes == limits.CHUNK + 1_000_000 + 5 + (9 << 20)
    assert await contents(lake, result.manifest) == files
    (tmp_path / "d/renamed").write_bytes(files["nine"])
    again = await push(tmp_path / "d", lake, project=PROJECT, parent=result.manifest)
    assert (again.uploaded_bytes, again.chunks) == (0, ())


class Failing(InMemoryObjectStore):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
        if self.left <= 0:
            raise Unavailable("away")
        self.left -= 1
        return await super().put(key, data, create_only=create_only)


def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stat cache take fresh files for old ones."""
    monkeypatch.setattr("millrace.datasets.statcache.RACY_NS", -(10**12))


@pytest.mark.usefixtures("small_packs")
async def test_a_broken_push_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(monkeypatch)
    chance = random.Random(2)
    files = {f"{index:03d}": chance.randbytes(500) for index in range(100)}
    root = tmp_path / "d"
    write_tree(root, files)
    store = Failing(after=6)
    with StatCache(tmp_path / "stat.sqlite") as cache, pytest.raises(Unavailable):
        await push(root, store, project=PROJECT, stat_cache=cache)
    finished = len(store.objects)
    assert finished == 6
    store.left = 1_000
    opened: list[str] = []
    real = os.open

    def counting(path: str, *rest: Any, **named: Any) -> int:
        opened.append(str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", counting)
    with StatCache(tmp_path / "stat.sqlite") as cache:
        result = await push(root, store, project=PROJECT, stat_cache=cache)
    assert result.objects_skipped == finished
    assert len([path for path in opened if path.startswith(str(root))]) <= 100 - 6 * 7
    assert await contents(store, result.manifest) == files


async def test_the_stat_cache_spares_reading(
    memory: InMemoryObjectStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(monkeypatch)
    with StatCache(tmp_path / "stat.sqlite") as cache:
        first = await push(tree, memory, project=PROJECT, stat_cache=cache)
    with StatCache(tmp_path / "stat.sqlite") as cache:
        monkeypatch.setattr("millrace.datasets.folder_push.read_segment", None)
        again = await push(tree, memory, project=PROJECT, stat_cache=cache, parent=first.manifest)
    assert not again.changed


async def test_young_files_are_hashed_again(memory: InMemoryObjectStore, tree: Path, tmp_path: Path) -> None:
    with StatCache(tmp_path / "stat.sqlite") as cache:
        await push(tree, memory, project=PROJECT, stat_cache=cache)
        (tree / "train/0/a.png").write_bytes(b"AAAA")
        os.utime(tree / "train/0/a.png", ns=(10**18, 10**18))
        result = await push(tree, memory, project=PROJECT, stat_cache=cache)
    assert (await contents(memory, result.manifest))["train/0/a.png"] == b"AAAA"


def test_a_damaged_stat_cache_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "stat.sqlite"
    path.write_bytes(b"this is no database" * 1_000)
    with StatCache(path) as cache:
        _, known = cache.look_up(scan(tmp_path), now_ns=2**62)
        assert not known.any()


async def test_a_dry_run_sends_nothing(memory: InMemoryObjectStore, tree: Path) -> None:
    planned = await push(tree, memory, project=PROJECT, dry_run=True)
    assert memory.objects == {}
    assert sum(memory.requests.values()) == 0
    real = await push(tree, memory, project=PROJECT)
    assert (planned.tree_root, planned.packs, planned.uploaded_bytes) == (
        real.tree_root,
        real.packs,
        real.uploaded_bytes,
    )


async def test_links_devices_and_bad_names_are_refused_and_named(memory: InMemoryObjectStore, tree: Path) -> None:
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "folder-link").symlink_to(tree / "train")
    os.mkfifo(tree / "pipe")
    (tree / "back\\slash").write_bytes(b"")
    os.close(os.open(os.fsencode(tree) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        with pytest.raises(Refused) as refusal:
            await push(tree, memory, project=PROJECT)
    for name in ("'link'", "'folder-link'", "'pipe'", "'socket'", "back", "udcff"):
        assert name in str(refusal.value)
    assert memory.objects == {}


async def test_clashing_names_are_refused(memory: InMemoryObjectStore, tree: Path) -> None:
    (tree / "TRAIN").mkdir()
    (tree / "TRAIN/0").mkdir()
    (tree / "TRAIN/0/A.png").write_bytes(b"")
    with pytest.raises(Refused, match="differ only by case"):
        await push(tree, memory, project=PROJECT)


async def test_decomposed_names_are_stored_composed(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    write_tree(tmp_path / "d", {"e\u0301.txt": b"x"})
    result = await push(tmp_path / "d", memory, project=PROJECT)
    assert result.manifest.paths == ["é.txt"]


async def test_our_own_folder_is_not_data(memory: InMemoryObjectStore, tree: Path) -> None:
    write_tree(tree, {".millrace-data/config.json": b"{}"})
    assert (await push(tree, memory, project=PROJECT)).files == len(FILES)


async def test_a_file_that_changes_meanwhile_is_noticed(
    memory: InMemoryObjectStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def touching(handle: int, buffers: list[memoryview], offset: int) -> int:
        (tree / "train/0/a.png").write_bytes(b"longer than it was")
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", touching)
    with pytest.raises(Changed, match=r"a\.png"):
        await push(tree, memory, project=PROJECT)


async def test_a_folder_that_is_not_there_is_an_error(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nowhere"):
        await push(tmp_path / "nowhere", memory, project=PROJECT)


async def test_files_come_from_anywhere(lake: ObjectStore) -> None:
    async def source() -> AsyncIterator[SourceFile]:
        for path in sorted(FILES):
            await asyncio.sleep(0)
            yield SourceFile.of_bytes(path, FILES[path])

    result = await push_files(source(), lake, project=PROJECT)
    assert await contents(lake, result.manifest) == FILES


async def test_extending_keeps_adds_and_overwrites(memory: InMemoryObjectStore) -> None:
    first = await push_files([SourceFile.of_bytes(*item) for item in FILES.items()], memory, project=PROJECT)
    more = {"train/0/a.png": b"better", "labelled/x.png": b"xx", "labelled/known.png": b"aaaa"}
    second = await extend(
        first.manifest, [SourceFile.of_bytes(*item) for item in more.items()], memory, project=PROJECT
    )
    assert await contents(memory, second.manifest) == {**FILES, **more}
    assert second.uploaded_bytes == 8 + 2 * 44 + 64
    again = await extend(
        second.manifest, [SourceFile.of_bytes(*item) for item in more.items()], memory, project=PROJECT
    )
    assert not again.changed


@pytest.mark.parametrize("path", ["../x", "/x", "empty.txt/x", "EMPTY.txt"])
async def test_extending_refuses_bad_and_clashing_paths(memory: InMemoryObjectStore, path: str) -> None:
    first = await push_files([SourceFile.of_bytes(*item) for item in FILES.items()], memory, project=PROJECT)
    with pytest.raises(Refused):
        await extend(first.manifest, [SourceFile.of_bytes(path, b"x")], memory, project=PROJECT)


async def test_a_source_that_lies_about_its_size_is_noticed(memory: InMemoryObjectStore) -> None:
    async def short(offset: int, length: int) -> bytes:
        return b"x"

    for size in (2, 20 << 20):
        with pytest.raises(Changed):
            await push_files([SourceFile("a", size, short)], memory, project=PROJECT)


@pytest.mark.usefixtures("small_packs")
async def test_memory_is_bounded_by_uploads_in_flight(tmp_path: Path) -> None:
    class Slow(InMemoryObjectStore):
        now = most = 0

        async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
            await asyncio.sleep(0.001)
            Slow.now -= 1
            return await super().put(key, data, create_only=create_only)

    write_tree(tmp_path / "d", {f"{index:03d}": os.urandom(1_000) for index in range(60)})
    await push(tmp_path / "d", Slow(), project=PROJECT)
    assert 1 < Slow.most <= uploads.IN_FLIGHT


@pytest.mark.usefixtures("small_packs")
async def test_places_are_found_again_from_packs_alone(lake: ObjectStore, tree: Path) -> None:
    result = await push(tree, lake, project=PROJECT)
    index = await rebuild_index(lake, PROJECT)
    rebuilt = relocate(result.manifest.entries(), index)
    assert rebuilt.tree_root == result.tree_root
    assert await contents(lake, rebuilt) == FILES
    assert await rebuild_index(lake, PROJECT, result.packs) == index
    assert (digest(b"aaaa"), 4) in index


def test_a_push_starts_without_what_only_services_need() -> None:
    asked = "import sys, millrace.datasets.push, millrace.objects.s3; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not modules & {"millrace.events.registry", "millrace.events.envelope", "minio", "nats", "pymongo", "fastapi"}
