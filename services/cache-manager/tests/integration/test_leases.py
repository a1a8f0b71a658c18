"""Leases: granted only on what is ready, kept by beats, and stronger than any eviction."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cache_manager.application.cache import Cache
from cache_manager.application.leases import AcquireLease, acquire_lease, expire_leases, release_lease, renew_lease
from cache_manager.domain.names import parse_lease
from cache_manager.errors import EntryNotReady, LeaseLost, SiteNotFound
from millrace.clock import new_id
from millrace.errors import NotFound

pytestmark = pytest.mark.servers


def lease_for(version: Any, run: str | None = None, **changes: Any) -> AcquireLease:
    given = {
        "run": run or str(new_id()),
        "site": "nfs-a",
        "project": "default",
        "dataset": version.dataset,
        "commit": version.commit,
        **changes,
    }
    return AcquireLease(**given)


async def test_the_first_use_is_a_miss_and_each_further_one_saves_the_bytes(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    run = str(new_id())

    first = await acquire_lease(lease_for(version, run), world=manager.world)
    again = await acquire_lease(lease_for(version, run), world=manager.world)
    second = await acquire_lease(lease_for(version), world=manager.world)

    entry = await manager.world.entries.get(lab.key(version).id)
    assert first["path"] == str(lab.site / "v" / "default" / version.commit)
    assert [first["hit"], again["hit"], second["hit"]] == [False, False, True]
    assert [first["token"], again["token"], second["token"]] == [1, 2, 3]
    assert (entry.hits, entry.misses, entry.saved_bytes, len(entry.leases)) == (1, 1, 36_000, 2)
    with pytest.raises(LeaseLost):
        await renew_lease(first["lease"], "default", world=manager.world)
    await renew_lease(again["lease"], "default", world=manager.world)


async def test_hits_and_misses_of_a_site_survive_refills_and_restarts(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    for _ in range(3):
        lease = await acquire_lease(lease_for(version), world=manager.world)
        await release_lease(lease["lease"], "default", world=manager.world)
    await lab.ask(manager, version, desired="absent")
    await lab.until_state(manager, lab.key(version), "ABSENT")
    await lab.ready(manager, version)
    await acquire_lease(lease_for(version), world=manager.world)

    [site] = await Cache((await lab.manager()).world).list_sites("default")
    assert (site["hits"], site["misses"]) == (2, 2)
    [elsewhere] = await Cache(manager.world).list_sites("other")
    assert (elsewhere["hits"], elsewhere["misses"]) == (0, 0)


async def test_while_it_is_not_ready_the_reason_is_told(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ask(manager, version)
    with pytest.raises(EntryNotReady) as refused:
        await acquire_lease(lease_for(version), world=manager.world)
    assert refused.value.to_problem()["state"] == "QUEUED"
    assert "waiting for a worker" in refused.value.message


async def test_a_run_that_asks_for_what_nobody_requested_requests_it(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    with pytest.raises(EntryNotReady):
        await acquire_lease(lease_for(version), world=manager.world)
    await lab.until_state(manager, lab.key(version), "READY")
    assert (await acquire_lease(lease_for(version), world=manager.world))["hit"] is False


async def test_what_does_not_exist_is_not_found(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    with pytest.raises(SiteNotFound):
        await acquire_lease(lease_for(version, site="nfs-z"), world=manager.world)
    with pytest.raises(NotFound):
        await acquire_lease(lease_for(version, commit="0" * 64), world=manager.world)
    with pytest.raises(NotFound):
        await acquire_lease(lease_for(version, project="other"), world=manager.world)


async def test_another_projects_lease_is_unknown(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    lease = (await acquire_lease(lease_for(version), world=manager.world))["lease"]
    for change in (renew_lease, release_lease):
        with pytest.raises(LeaseLost):
            await change(lease, "other", world=manager.world)


async def test_a_leased_entry_stays_until_the_lease_is_released(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    lease = (await acquire_lease(lease_for(version), world=manager.world))["lease"]
    await lab.ask(manager, version, desired="absent")
    for _ in range(3):
        await lab.step(manager)
    assert (lab.site / "v" / "default" / version.commit / "_READY").exists()

    await release_lease(lease, "default", world=manager.world)
    await lab.until_state(manager, lab.key(version), "ABSENT")

    assert not (lab.site / "v" / "default" / version.commit).exists()
    await release_lease(lease, "default", world=manager.world)


async def test_a_silent_lease_expires_and_a_beating_one_does_not(lab: Any) -> None:
    manager, version = await lab.manager(lease_seconds=0.4), await lab.version()
    await lab.ready(manager, version)
    silent = (await acquire_lease(lease_for(version), world=manager.world))["lease"]
    beating = (await acquire_lease(lease_for(version), world=manager.world))["lease"]
    await expire_leases(manager.world)
    for _ in range(8):
        await asyncio.sleep(0.1)
        await renew_lease(beating, "default", world=manager.world)
        await expire_leases(manager.world)

    entry = await manager.world.entries.get(lab.key(version).id)

    assert list(entry.leases) == [parse_lease(beating).run]
    with pytest.raises(LeaseLost):
        await renew_lease(silent, "default", world=manager.world)


async def test_grants_and_an_eviction_at_the_same_moment_never_both_win(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    for _ in range(8):
        await lab.ready(manager, version)
        entry = await manager.world.entries.get(lab.key(version).id)

        async def grant() -> Any:
            try:
                return await acquire_lease(lease_for(version), world=manager.world)
            except EntryNotReady:
                return None

        evicted, *granted = await asyncio.gather(
            manager.world.entries.evict(entry, reason="pressure", only_if_wished="present"),
            *(grant() for _ in range(10)),
        )
        leases = [lease["lease"] for lease in granted if lease is not None]
        assert (evicted is None) == bool(leases)
        for lease in leases:
            await release_lease(lease, "default", world=manager.world)
        await lab.ask(manager, version, desired="absent")
        await lab.until_state(manager, lab.key(version), "ABSENT")


async def test_a_hundred_grants_at_once(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    granted = await asyncio.gather(*(acquire_lease(lease_for(version), world=manager.world) for _ in range(100)))
    assert len({lease["token"] for lease in granted}) == 100
    assert [lease["hit"] for lease in granted].count(False) == 1
    entry = await manager.world.entries.get(lab.key(version).id)
    assert (len(entry.leases), entry.hits, entry.saved_bytes) == (100, 99, 99 * 36_000)
