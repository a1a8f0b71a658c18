"""Verifying a version where it lies: one wrong byte anywhere is found and named with the files that it hits."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.datasets import limits
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.lake_verify import verify_lake
from millrace.datasets.progress import Progress
from millrace.datasets.push import PushResult, push
from millrace.errors import Unavailable
from millrace.testing.objects import InMemoryObjectStore


@pytest.fixture
async def pushed(tmp_path: Path) -> tuple[InMemoryObjectStore, PushResult]:
    """A version of small files, an empty one, equal ones and a large one."""
    store = InMemoryObjectStore()
    for number in range(20):
        (tmp_path / f"{number:02}").write_bytes(b"%d" % (number // 2) * 100)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(bytes(range(256)) * 65_536 + b"end" * limits.MIB)
    return store, await push(tmp_path, store, project="p")


async def test_a_whole_version_is_clean_and_reports_progress(pushed) -> None:
    store, made = pushed
    seen: list[Progress] = []
    found = await verify_lake(store, made.manifest, project="p", progress=seen.append)
    assert found.clean
    assert (found.files, found.bytes, found.objects) == (22, made.bytes, 3)
    assert seen[-1].bytes_done == made.bytes


async def test_a_flipped_byte_is_named_with_its_files(pushed) -> None:
    store, made = pushed
    key = pack_key("p", made.packs[0])
    for place in (0, len(store.objects[key]) // 2, len(store.objects[key]) - 1):
        kept = store.objects[key]
        store.objects[key] = kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :]
        (damage,) = (await verify_lake(store, made.manifest, project="p")).damaged
        assert damage.object == f"packs/{made.packs[0]}"
        assert damage.paths[:2] == ("00", "01")
        store.objects[key] = kept


async def test_what_is_missing_is_named(pushed) -> None:
    store, made = pushed
    del store.objects[pack_key("p", made.packs[0])]
    key = chunk_key("p", made.chunks[-1])
    store.objects[key] = b"x" + store.objects[key][1:]
    found = await verify_lake(store, made.manifest, project="p")
    assert {path for damage in found.damaged for path in damage.paths} == {*(f"{n:02}" for n in range(20)), "large"}


async def test_another_pack_under_its_name_is_no_pack_of_the_version(pushed, tmp_path: Path) -> None:
    store, made = pushed
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(b"x")
    other = await push(tmp_path / "other", store, project="p")
    store.objects[pack_key("p", made.packs[0])] = store.objects[pack_key("p", other.packs[0])]
    found = await verify_lake(store, made.manifest, project="p")
    assert len(found.damaged) == 1


async def test_a_lake_that_is_away_is_no_damage(pushed, monkeypatch) -> None:
    store, made = pushed

    async def away(_: str) -> bytes:
        raise Unavailable("away")

    monkeypatch.setattr(store, "get", away)
    with pytest.raises(Unavailable):
        await verify_lake(store, made.manifest, project="p")
