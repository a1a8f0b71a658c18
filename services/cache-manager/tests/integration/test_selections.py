"""Copies of a part of a version, and copies as packs: entries of their own with the same promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.leases import AcquireLease, acquire_lease
from cache_manager.application.scrubbing import Scrubber
from cache_manager.application.sweep import Sweep
from cache_manager.domain.names import EntryKey, parse_entry
from cache_manager.domain.selection import Selection
from millrace.clock import new_id
from millrace.datasets.readers import Dataset
from millrace.errors import NotFound

pytestmark = pytest.mark.servers

PACKS = Selection("packs")
SOME = Selection(paths=("train/1/", "train/2/*.png"))
BOTH = Selection("packs", ("train/1/",))


def key(version: Any, selection: Selection) -> EntryKey:
    return EntryKey("nfs-a", "default", version.commit, selection.variant)


def path(lab: Any, version: Any, selection: Selection) -> Path:
    return lab.site / "v" / "default" / key(version, selection).copy


async def cached(lab: Any, manager: Any, version: Any, selection: Selection) -> Any:
    await lab.ask(manager, version, selection=selection)
    return await lab.until_state(manager, key(version, selection), "READY")


def test_names_tell_selections_apart() -> None:
    names = {Selection().variant, PACKS.variant, SOME.variant, BOTH.variant}
    assert len(names) == 4
    assert Selection(paths=("b", "a", "a")).variant == Selection(paths=("a", "b")).variant
    wanted = EntryKey("s", "p", "0" * 64, BOTH.variant)
    assert parse_entry(wanted.id) == wanted


async def test_a_part_holds_what_matches_and_is_charged_for_it(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    entry = await cached(lab, manager, version, SOME)
    root = path(lab, version, SOME)
    files = sorted(it.relative_to(root).as_posix() for it in root.rglob("*.png"))
    assert files == sorted(f"train/{n % 10}/{n:04d}.png" for n in range(40) if n % 10 in {1, 2})
    assert (entry.files, entry.bytes, entry.charge.bytes) == (8, 8 * 900, 8 * 900)
    assert await lab.violations(manager) == []
    [event] = await lab.events()
    assert (event.data.variant, event.data.files) == (SOME.variant, 8)


async def test_packs_are_read_where_they_lie(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    entry = await cached(lab, manager, version, PACKS)
    with Dataset.open_packs(path(lab, version, PACKS)) as dataset:
        assert len(dataset) == 40
        assert dataset.read("train/3/0003.png").startswith(b"digits 1 3 ")
    assert (entry.files, entry.bytes) == (40, 40 * 900)
    assert entry.charge.bytes > entry.bytes
    assert entry.stored.inodes == 2
    assert await lab.violations(manager) == []


async def test_a_part_of_the_packs(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await cached(lab, manager, version, BOTH)
    with Dataset.open_packs(path(lab, version, BOTH)) as dataset:
        assert list(dataset.paths) == [f"train/1/{n:04d}.png" for n in (1, 11, 21, 31)]


async def test_each_selection_is_a_copy_of_its_own_that_shares_what_is_near(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await cached(lab, manager, version, Selection())
    reads = lab.store.pack_reads()
    part = await cached(lab, manager, version, SOME)
    assert lab.store.pack_reads() == reads
    assert part.fetched_bytes == 0
    await lab.ask(manager, version, desired="absent")
    await lab.until_state(manager, lab.key(version), "ABSENT")
    assert (path(lab, version, SOME) / "train/1/0001.png").read_bytes().startswith(b"digits 1 1 ")
    assert await lab.violations(manager) == []


async def test_nothing_that_matches_is_said_and_nothing_is_cached(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    nothing = Selection(paths=("nowhere/",))
    await lab.ask(manager, version, selection=nothing)
    entry = await lab.until_state(manager, key(version, nothing), "FAILED")
    assert "nowhere/" in entry.reason
    with pytest.raises(NotFound):
        await manager.world.lake.facts("default", version.commit, nothing)


async def test_a_run_leases_the_selection_that_it_names(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await cached(lab, manager, version, Selection())
    await cached(lab, manager, version, PACKS)
    cmd = AcquireLease(str(new_id()), "nfs-a", "default", "digits", version.commit, selection=PACKS)
    granted = await acquire_lease(cmd, world=manager.world)
    assert (granted["path"], granted["mode"]) == (str(path(lab, version, PACKS)), "packs")
    await lab.ask(manager, version, desired="absent", selection=PACKS)
    await lab.step(manager)
    assert path(lab, version, PACKS).is_dir()


@pytest.mark.parametrize("name", ["packs", "manifest"])
async def test_a_flipped_byte_in_packs_is_found_and_mended(lab: Any, name: str) -> None:
    manager, version = await lab.manager(), await lab.version()
    await cached(lab, manager, version, PACKS)
    root = path(lab, version, PACKS)
    victim = root / "manifest" if name == "manifest" else next((root / "packs").iterdir())
    good = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(b"x" + good[1:])
    await manager.world.entries.want_scrub({"site": "nfs-a"})
    scrubber = Scrubber(manager.world)
    while await scrubber.step():
        pass
    await lab.until_state(manager, key(version, PACKS), "READY")
    assert victim.read_bytes() == good
    assert "cache.repaired" in await lab.event_types()
    assert await lab.violations(manager) == []


async def test_selections_on_a_site_are_adopted_by_a_database_that_forgot_them(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    for selection in (SOME, BOTH):
        await cached(lab, manager, version, selection)
    await lab.client[lab.database]["entries"].delete_many({})
    await Sweep(manager.world).all()
    for selection in (SOME, BOTH):
        entry = await lab.until_state(manager, key(version, selection), "READY")
        assert (entry.mode, entry.paths, entry.fetched_bytes) == (selection.mode, selection.paths, 0)
