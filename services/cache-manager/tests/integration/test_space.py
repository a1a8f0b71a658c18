"""Room: promised before the first byte, made by evicting what is unused, never exceeded."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cache_manager.application.housekeeping import age
from cache_manager.application.leases import AcquireLease, acquire_lease
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Asked
from millrace import failpoints
from millrace.clock import new_id

pytestmark = pytest.mark.servers


def site(lab: Any, capacity: int, **more: Any) -> tuple[dict[str, Any], ...]:
    return ({"site": "nfs-a", "path": str(lab.site), "capacity_bytes": capacity, **more},)


async def use(lab: Any, manager: Any, version: Any) -> str:
    command = AcquireLease(str(new_id()), "nfs-a", "default", version.dataset, version.commit)
    return str((await acquire_lease(command, world=manager.world))["lease"])


async def test_what_never_fits_fails_with_a_reason(lab: Any) -> None:
    manager, version = await lab.manager(sites=site(lab, 1_000)), await lab.version()
    await lab.ask(manager, version)
    entry = await lab.until_state(manager, lab.key(version), "FAILED")
    assert "never fit" in entry.reason
    assert lab.store.pack_reads() == {}


async def test_inodes_count_too(lab: Any) -> None:
    manager, version = await lab.manager(sites=site(lab, 1_000_000, capacity_inodes=40)), await lab.version()
    await lab.ask(manager, version)
    await lab.until_state(manager, lab.key(version), "FAILED")


async def test_what_costs_least_makes_room(lab: Any) -> None:
    manager = await lab.manager(sites=site(lab, 80_000))
    old, young, new = [await lab.version(number) for number in (1, 2, 3)]
    for version in (old, young):
        await lab.ready(manager, version)
    for version, heat in ((old, 0.1), (young, 5.0)):
        await lab.set(version, heat=heat, uses=1, fill_seconds=1.0)

    await lab.ready(manager, new)

    states = {version.version: (await manager.world.entries.get(lab.key(version).id)).state for version in (old, young)}
    assert states[2] == "READY"
    assert states[1] in {"TRASHED", "ABSENT"}
    assert "cache.evicted" in await lab.event_types()
    assert (await lab.charged(manager)).bytes <= 80_000


async def test_leased_entries_are_not_pressed_out_and_the_reason_is_told(lab: Any) -> None:
    manager = await lab.manager(sites=site(lab, 80_000))
    versions = [await lab.version(number) for number in (1, 2, 3)]
    for version in versions[:2]:
        await lab.ready(manager, version)
        await use(lab, manager, version)
    await lab.ask(manager, versions[2])

    entry = await lab.until_state(manager, lab.key(versions[2]), "WAIT_SPACE")

    assert "in use" in entry.reason
    assert entry.charge == Charge()
    assert await lab.violations(manager) == []


async def test_unused_entries_age_out_and_used_ones_do_not(lab: Any) -> None:
    manager = await lab.manager(age_out_seconds=100.0)
    idle, used = [await lab.version(number) for number in (1, 2)]
    for version in (idle, used):
        await lab.ready(manager, version)
    await use(lab, manager, used)
    for _ in range(3):
        await age(manager.world, 40.0)

    await lab.until_state(manager, lab.key(idle), "ABSENT")

    assert (await manager.world.entries.get(lab.key(used).id)).state == "READY"
    [evicted] = [event for event in await lab.events() if event.type == "cache.evicted"]
    assert (evicted.data.reason, evicted.data.commit) == ("age", idle.commit)


async def test_what_is_wanted_again_is_taken_back_from_the_trash(lab: Any) -> None:
    manager, version = await lab.manager(grace_seconds=60.0), await lab.version()
    await lab.ready(manager, version)
    await lab.ask(manager, version, desired="absent")
    await lab.until_state(manager, lab.key(version), "TRASHED")
    reads = lab.store.pack_reads()

    await lab.ready(manager, version)

    assert lab.store.pack_reads() == reads
    assert await lab.event_types() == ["cache.ready", "cache.evicted", "cache.ready"]
    assert await lab.violations(manager) == []


async def test_the_newest_wish_wins_in_any_order(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ask(manager, version, asked=Asked(2, "b"))
    await lab.ask(manager, version, desired="absent", asked=Asked(3, "a"))
    await lab.ask(manager, version, asked=Asked(2, "z"))
    await lab.ask(manager, version, asked=Asked(3, "0"))
    entry = await manager.world.entries.get(lab.key(version).id)
    assert (entry.desired, entry.asked) == ("absent", Asked(3, "a"))


async def test_capacity_is_never_exceeded_under_random_wishes(lab: Any) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    capacity = 100_000
    managers = [await lab.manager(sites=site(lab, capacity)) for _ in range(2)]
    versions = [await lab.version(number, files=chance.randint(5, 40)) for number in range(1, 7)]
    for _ in range(40):
        version = chance.choice(versions)
        await lab.ask(chance.choice(managers), version, desired=chance.choice(["present", "present", "absent"]))
        await lab.step(*managers)
        on_disk = sum(path.stat().st_size for path in lab.site.rglob("*.png"))
        assert on_disk <= (await lab.charged(managers[0])).bytes <= capacity, seed
    assert await lab.violations(managers[0]) == []


async def test_a_full_file_system_is_waited_for_and_leaves_no_charge(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, version = await lab.manager(), await lab.version()
    monkeypatch.setattr(failpoints, "_ARMED", failpoints.parse("fill.C3.after=enospc"))
    monkeypatch.setattr(failpoints, "_HITS", {})
    await lab.ask(manager, version)

    waiting = await lab.until_state(manager, lab.key(version), "WAIT_SPACE")
    charged = await lab.charged(manager)
    await lab.until_state(manager, lab.key(version), "READY")

    assert "no space left" in waiting.reason
    assert charged in {Charge(), waiting.charge}
    assert await lab.event_types() == ["cache.ready"]
    assert await lab.violations(manager) == []
