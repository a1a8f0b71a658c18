from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import stat
import threading
from importlib import import_module
from pathlib import Path

import pytest

from millrace.datasets import fetch, folder_push, limits
from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.fill import fill
from millrace.datasets.folders import NoSpace
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.manifest import Manifest
from millrace.datasets.progress import Progress
from millrace.datasets.push import push
from millrace.datasets.verify import verify_tree
from millrace.errors import Conflict, Corrupt, NotFound, Unavailable
from millrace.objects import ObjectStore
from millrace.testing.objects import InMemoryObjectStore

from .helpers import PROJECT, read_tree, write_tree

fill_module = import_module("millrace.datasets.fill")
CHANCE = random.Random(7)
FILES = {f"train/{index % 3}/{index:03d}.bin": CHANCE.randbytes(CHANCE.randrange(0, 3_000)) for index in range(60)}
FILES |= {"deep/er/and/deeper/x": b"x", "same": FILES["train/0/003.bin"], "empty": b""}
BIG = {"big": CHANCE.randbytes(limits.CHUNK + 5_000_000), "nine": CHANCE.randbytes(9 << 20)}


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 20_000)


async def stored(store: ObjectStore, tmp_path: Path, files: dict[str, bytes]) -> Manifest:
    write_tree(tmp_path / "source", files)
    return (await push(tmp_path / "source", store, project=PROJECT)).manifest


async def test_a_version_becomes_a_tree(lake: ObjectStore, tmp_path: Path) -> None:
    manifest = await stored(lake, tmp_path, FILES | BIG)
    reports: list[Progress] = []
    result = await fill(lake, manifest, tmp_path / "staging", project=PROJECT, progress=reports.append)
    assert read_tree(tmp_path / "staging") == FILES | BIG
    assert (result.files, result.bytes, result.tree_root) == (manifest.files, manifest.bytes, manifest.tree_root)
    stored_bytes = sum(pack.size for pack in manifest.packs) + sum(map(len, BIG.values()))
    assert result.fetched_bytes == stored_bytes
    assert result.requests == len(manifest.packs) + 3
    assert reports[-1] == Progress(manifest.files, manifest.files, manifest.bytes, manifest.bytes, stored_bytes)
    assert verify_tree(tmp_path / "staging", manifest).clean


async def test_modes_are_ours_whatever_the_umask(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, {"a/b": b"1", "c": b"2", "big": BIG["nine"]})
    before = os.umask(0o077)
    try:
        await fill(memory, manifest, tmp_path / "staging", project=PROJECT)
    finally:
        os.umask(before)
    for path in ("a/b", "c", "big"):
        assert stat.S_IMODE((tmp_path / "staging" / path).stat().st_mode) == 0o440
    assert stat.S_IMODE((tmp_path / "staging/a").stat().st_mode) == 0o750


async def test_little_of_a_pack_is_fetched_by_ranges(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    builder = ManifestBuilder()
    some = [entry for entry in manifest.entries() if entry.path.endswith(("1.bin", "2.bin"))]
    for entry in some:
        builder.add_entry(entry, None if entry.pack is None else manifest.packs[entry.pack])
    part = builder.build()
    memory.requests["get"] = 0
    result = await fill(memory, part, tmp_path / "staging", project=PROJECT)
    assert read_tree(tmp_path / "staging") == {entry.path: FILES[entry.path] for entry in some}
    assert memory.requests["get"] == 0
    assert memory.requests["range"] == result.requests > 0


@pytest.mark.parametrize("whole_above", [0.0, 2.0])
async def test_damaged_bytes_never_get_a_name(
    memory: InMemoryObjectStore, tmp_path: Path, whole_above: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "WHOLE_ABOVE", whole_above)
    manifest = await stored(memory, tmp_path, FILES | BIG)
    victim = manifest.entry(manifest.find("train/1/010.bin") or 0)
    assert victim.pack is not None
    for key, path, place in (
        (pack_key(PROJECT, manifest.packs[victim.pack].id), victim.path, victim.offset + 3),
        (chunk_key(PROJECT, manifest.entry(manifest.find("big") or 0).chunks[1].hex()), "big", 77),
    ):
        good = memory.objects[key]
        memory.objects[key] = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        with pytest.raises(Corrupt, match=path):
            await fill(memory, manifest, tmp_path / "staging", project=PROJECT)
        assert not (tmp_path / "staging" / path).exists()
        memory.objects[key] = good
    await fill(memory, manifest, tmp_path / "staging", project=PROJECT)
    assert read_tree(tmp_path / "staging") == FILES | BIG


@pytest.mark.parametrize("change", ["shorter", "longer", "gone", "empty"])
async def test_a_pack_of_another_size_is_refused(memory: InMemoryObjectStore, tmp_path: Path, change: str) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    key = pack_key(PROJECT, manifest.packs[0].id)
    good = memory.objects.pop(key)
    if change != "gone":
        memory.objects[key] = {"shorter": good[:-1], "longer": good + b"x", "empty": b""}[change]
    with pytest.raises(NotFound if change == "gone" else Corrupt):
        await fill(memory, manifest, tmp_path / "staging", project=PROJECT)


async def test_a_second_fill_keeps_what_is_good(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    staging = tmp_path / "staging"
    await fill(memory, manifest, staging, project=PROJECT)
    (staging / "train/0/003.bin").unlink()
    (staging / "train/1/001.bin").chmod(0o640)
    (staging / "train/1/001.bin").write_bytes(b"damaged")
    (staging / "stranger").write_bytes(b"?")
    (staging / ".0123456789abcdef.part").write_bytes(b"half")
    result = await fill(memory, manifest, staging, project=PROJECT)
    assert read_tree(staging) == FILES
    assert result.kept_files == manifest.files - 2
    assert 0 < result.fetched_bytes < manifest.bytes
    assert (await fill(memory, manifest, staging, project=PROJECT)).fetched_bytes == 0


async def test_links_are_never_followed(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    outside, staging = tmp_path / "outside", tmp_path / "staging"
    outside.mkdir()
    staging.symlink_to(outside)
    with pytest.raises(Conflict):
        await fill(memory, manifest, staging, project=PROJECT)
    staging.unlink()
    staging.mkdir()

    async def trap(name: str) -> None:
        if name == "fill.C2.after":
            (staging / "train").symlink_to(outside)
            (staging / "same").symlink_to(outside / "target")

    with pytest.raises(Conflict):
        await fill(memory, manifest, staging, project=PROJECT, failpoint=trap)
    assert list(outside.iterdir()) == []


async def test_the_points_of_a_fill_are_passed_in_order(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, {"a": b"x"})
    passed: list[str] = []

    async def note(name: str) -> None:
        passed.append(name)

    await fill(memory, manifest, tmp_path / "staging", project=PROJECT, failpoint=note)
    assert passed == [
        f"fill.{point}"
        for point in (
            "C2.after",
            "C3.before",
            "C3.after",
            "C4.after",
            "C5.before",
            "C5.after",
            "C6.before",
            "C6.after",
        )
    ]


async def test_a_full_disk_has_its_own_error(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES)

    async def full(name: str) -> None:
        if name == "fill.C3.after":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NoSpace) as refusal:
        await fill(memory, manifest, tmp_path / "staging", project=PROJECT, failpoint=full)
    assert refusal.value.transient


async def test_a_broken_fill_can_be_stopped_at_any_moment(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES | BIG)
    for point in (
        "fill.C2.after",
        "fill.C3.before",
        "fill.C3.after",
        "fill.C4.after",
        "fill.C5.before",
        "fill.C6.after",
    ):

        async def fail(name: str, point: str = point) -> None:
            if name == point:
                raise Unavailable(name)

        with pytest.raises(Unavailable, match=point):
            await fill(memory, manifest, tmp_path / "staging", project=PROJECT, failpoint=fail)
        assert len(asyncio.all_tasks()) == 1
    await fill(memory, manifest, tmp_path / "staging", project=PROJECT)
    assert read_tree(tmp_path / "staging") == FILES | BIG


async def test_packs_are_fetched_at_most_so_many_at_once(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    now = most = 0

    async def count(name: str) -> None:
        nonlocal now, most
        now += {"fill.C3.before": 1, "fill.C4.after": -1}.get(name, 0)
        most = max(most, now)
        await asyncio.sleep(0.001)

    await fill(memory, manifest, tmp_path / "staging", project=PROJECT, failpoint=count, concurrency=2)
    assert most == 2


async def test_verify_names_what_is_wrong(memory: InMemoryObjectStore, tmp_path: Path) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    tree = tmp_path / "tree"
    shutil.copytree(tmp_path / "source", tree)
    (tree / "_READY").write_bytes(b"ours")
    good = verify_tree(tree, manifest)
    assert good.clean
    assert (good.files, good.bytes, good.tree_root) == (manifest.files, manifest.bytes, manifest.tree_root)
    (tree / "same").write_bytes(b"other")
    (tree / "empty").unlink()
    (tree / "extra").write_bytes(b"")
    (tree / "deep/er/and/deeper/x").unlink()
    (tree / "deep/er/and/deeper/x").symlink_to("/etc/passwd")
    sizes: list[int] = []
    bad = verify_tree(tree, manifest, on_file=sizes.append)
    assert (bad.missing, bad.extra, bad.damaged) == (("empty",), ("extra",), ("deep/er/and/deeper/x", "same"))
    assert bad.tree_root != manifest.tree_root
    assert len(sizes) == manifest.files


async def test_a_cancelled_fill_leaves_no_thread_behind(
    memory: InMemoryObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = await stored(memory, tmp_path, FILES)
    writing, go_on = threading.Event(), threading.Event()
    real = fill_module.write_file

    def slow(parent: int, name: str, data: bytes | memoryview) -> None:
        writing.set()
        go_on.wait(10)
        real(parent, name, data)

    monkeypatch.setattr(fill_module, "write_file", slow)
    task = asyncio.create_task(fill(memory, manifest, tmp_path / "staging", project=PROJECT))
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.setattr(fill_module, "write_file", real)
    await fill(memory, manifest, tmp_path / "staging", project=PROJECT)
    assert read_tree(tmp_path / "staging") == FILES
