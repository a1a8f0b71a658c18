"""The spare copy of a manifest: in packs, found by footers alone, never taken for what it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from millrace.datasets import spare
from millrace.datasets.keys import manifest_key, pack_key
from millrace.datasets.pack import footer, pack_id, read_pack
from millrace.datasets.push import push
from millrace.datasets.rebuild import rebuild_index
from millrace.datasets.spare import HEADER, MAGIC, Spares, spare_packs
from millrace.testing.objects import InMemoryObjectStore


async def _pushed(store: InMemoryObjectStore, folder: Path, **files: bytes) -> str:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return (await push(folder, store, project="p")).manifest_id


async def _spares(store: InMemoryObjectStore) -> Spares:
    found = Spares(store, "p")
    await found.scan()
    return found


async def test_a_lost_manifest_is_read_from_packs_alone(tmp_path: Path) -> None:
    store = InMemoryObjectStore()
    first = await _pushed(store, tmp_path / "a", one=b"1", two=b"22")
    second = await _pushed(store, tmp_path / "b", one=b"1", three=b"333")
    kept = {manifest: store.objects[manifest_key("p", manifest)] for manifest in (first, second)}
    for manifest in kept:
        await store.delete(manifest_key("p", manifest))
    spares = await _spares(store)
    assert {manifest: await spares.read(manifest) for manifest in kept} == kept
    assert await spares.read("0" * 64) is None


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 201, 950])
async def test_a_long_manifest_is_cut_into_parts_and_put_together(monkeypatch, size: int) -> None:
    monkeypatch.setattr(spare, "PART", 100)
    store, data = InMemoryObjectStore(), bytes(range(256)) * 4
    data = data[:size]
    manifest = blake3(data).hexdigest()
    packs = list(spare_packs(manifest, data))
    assert len(packs) == -(-size // 200)
    for pack, body in packs:
        assert pack == pack_id(body)
        assert len(read_pack(body, expect=pack)) <= 2
        await store.put(pack_key("p", pack), body)
    assert await (await _spares(store)).read(manifest) == (data or None)


async def test_a_part_that_is_missing_or_damaged_gives_nothing(monkeypatch) -> None:
    monkeypatch.setattr(spare, "PART", 100)
    data = bytes(500)
    manifest = blake3(data).hexdigest()
    packs = list(spare_packs(manifest, data))
    for lost in range(len(packs)):
        store = InMemoryObjectStore()
        for number, (pack, body) in enumerate(packs):
            if number != lost:
                await store.put(pack_key("p", pack), body)
        assert await (await _spares(store)).read(manifest) is None
    store = InMemoryObjectStore()
    for pack, body in packs:
        await store.put(pack_key("p", pack), body[: HEADER.size] + b"x" + body[HEADER.size + 1 :])
    assert await (await _spares(store)).read(manifest) is None


async def test_hostile_packs_are_named_and_passed_over(tmp_path: Path) -> None:
    store = InMemoryObjectStore()
    manifest = await _pushed(store, tmp_path / "a", one=b"1")
    await store.put(pack_key("p", "0" * 64), b"no pack at all")
    await store.put(pack_key("p", "1" * 64), b"")
    hostile = [b"short", HEADER.pack(b"OTHERMAG", bytes(32), 1, 0), HEADER.pack(MAGIC, bytes(32), 2**62, 0)]
    names = []
    for part in hostile:
        end = footer([(blake3(part).digest(), len(part))], flags=1)
        names.append(pack_id(end))
        await store.put(pack_key("p", names[-1]), part + end)
    spares = await _spares(store)
    assert sorted(spares.damaged) == sorted(["0" * 64, "1" * 64, *names])
    assert await spares.read(manifest) == store.objects[manifest_key("p", manifest)]


async def test_a_spare_copy_is_no_file_and_is_not_made_twice(tmp_path: Path) -> None:
    store = InMemoryObjectStore()
    manifest = await _pushed(store, tmp_path / "a", one=b"1")
    before = set(store.objects)
    data = store.objects[manifest_key("p", manifest)]
    assert {size for _, size in await rebuild_index(store, "p")} == {1}
    assert blake3(data).hexdigest() == manifest
    await push(tmp_path / "a", store, project="p")
    assert set(store.objects) == before
