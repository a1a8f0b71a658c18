"""A flipped byte is found, its file set aside and fetched again; a damaged pack in the lake never gets through."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.cache import Cache
from cache_manager.application.leases import AcquireLease, acquire_lease
from cache_manager.application.scrubbing import Scrubber
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Cause
from millrace.clock import new_id

pytestmark = pytest.mark.servers

FAST = {"scrub_bytes_per_second": 1e12}


def flip(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.chmod(0o640)
    path.write_bytes(data)
    return bytes(data)


def files(lab: Any, area: str, name: str = "*.png") -> list[Path]:
    return sorted((lab.site / area).rglob(name))


async def asked(lab: Any, manager: Any, version: Any) -> Scrubber:
    await Cache(manager.world).scrub(lab.key(version).id, "default", Cause(principal="anna"))
    return Scrubber(manager.world)


async def test_a_flipped_byte_is_set_aside_and_replaced_in_place(lab: Any) -> None:
    manager, version = await lab.manager(**FAST), await lab.version()
    before = await lab.ready(manager, version)
    lease = AcquireLease(str(new_id()), "nfs-a", "default", "digits", version.commit)
    await acquire_lease(lease, world=manager.world)
    [bad], good = files(lab, "v", "0007.png"), files(lab, "v", "0008.png")[0]
    inode, wrong = good.stat().st_ino, flip(bad)
    scrubber = await asked(lab, manager, version)

    assert await scrubber.step()
    assert not bad.exists()
    assert (await manager.world.entries.get(before.id)).state == "REPAIRING"
    entry = await lab.until_state(manager, lab.key(version), "READY")

    [kept] = files(lab, ".quarantine")
    assert (kept.name, kept.read_bytes()) == ("0007.png", wrong)
    assert bad.read_bytes().startswith(b"digits 1 7 ")
    assert good.stat().st_ino == inode
    assert len(entry.leases) == 1
    assert entry.charge == before.charge + Charge(900, 3) == await lab.charged(manager)
    types, repaired = await lab.event_types(), (await lab.events())[-1]
    assert (types, repaired.data.files) == (["cache.ready", "cache.repaired"], 1)
    assert await lab.violations(manager) == []


async def test_what_was_set_aside_goes_with_its_copy(lab: Any) -> None:
    manager, version = await lab.manager(**FAST), await lab.version()
    await lab.ready(manager, version)
    flip(files(lab, "v")[0])
    await (await asked(lab, manager, version)).step()
    await lab.until_state(manager, lab.key(version), "READY")
    await lab.ask(manager, version, desired="absent")
    await lab.until_state(manager, lab.key(version), "ABSENT")
    assert files(lab, ".quarantine") == []
    assert await lab.charged(manager) == Charge()


async def test_a_full_site_keeps_nothing_aside(lab: Any) -> None:
    site = ({"site": "nfs-a", "path": str(lab.site), "capacity_bytes": 36_000},)
    manager, version = await lab.manager(sites=site, **FAST), await lab.version()
    await lab.ready(manager, version)
    flip(files(lab, "v")[0])
    await (await asked(lab, manager, version)).step()
    await lab.until_state(manager, lab.key(version), "READY")
    assert files(lab, ".quarantine") == []
    assert await lab.violations(manager) == []


async def test_a_scrub_goes_on_where_it_was_and_ends(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache_manager.application.scrubbing.PIECE", 9_000)
    manager, version = await lab.manager(**FAST), await lab.version()
    await lab.ready(manager, version)
    scrubber, positions = await asked(lab, manager, version), []
    while await scrubber.step():
        entry = await manager.world.entries.get(lab.key(version).id)
        positions.append(entry.scrub_position)
        scrubber = Scrubber(manager.world)
    assert positions == [10, 20, 30, 0]
    assert entry.scrubbed_at is not None


async def test_every_byte_is_due_on_a_schedule_and_a_sample_in_between(lab: Any) -> None:
    version = await lab.version()
    manager = await lab.manager(scrub_seconds=0.001, **FAST)
    await lab.ready(manager, version)
    assert await Scrubber(manager.world).step()
    assert (await manager.world.entries.get(lab.key(version).id)).scrubbed_at is not None

    seldom = await lab.manager(sample_seconds=1e-9, **FAST)
    scrubber = Scrubber(seldom.world, chance=random.Random(3))
    flip(files(lab, "v")[-1])
    assert not await scrubber.step()
    assert await scrubber.step()
    await lab.until_state(seldom, lab.key(version), "READY")
    assert (await lab.event_types())[-1] == "cache.repaired"


async def test_a_copy_that_the_lake_cannot_mend_says_so_and_is_not_granted(lab: Any) -> None:
    manager, version = await lab.manager(**FAST), await lab.version()
    await lab.ready(manager, version)
    bad = files(lab, "v", "0007.png")[0]
    flip(bad)
    [pack] = lab.store.file_packs()
    sound, broken = lab.store.objects[pack], bytearray(lab.store.objects[pack])
    for place in range(0, len(broken), 400):
        broken[place] ^= 1
    lab.store.objects[pack] = bytes(broken)
    await (await asked(lab, manager, version)).step()

    async def failed() -> bool:
        return "cache.failed" in await lab.event_types()

    await lab.until(failed, manager)
    entry = await manager.world.entries.get(lab.key(version).id)
    assert (entry.state, bad.exists()) == ("REPAIRING", False)
    assert "digest" in entry.reason
    assert (await lab.events())[-1].data.retry_at is not None
    lab.store.objects[pack] = sound
    await lab.until_state(manager, lab.key(version), "READY")
    assert await lab.violations(manager) == []
