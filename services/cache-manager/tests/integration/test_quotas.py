"""Quotas of projects, the marks between which pressure works, and age-out rules."""

from __future__ import annotations

from typing import Any

import pytest

from cache_manager.application.cache import Cache
from cache_manager.application.housekeeping import age
from cache_manager.application.leases import AcquireLease, acquire_lease
from cache_manager.application.policy import CachePolicy
from cache_manager.application.pressing import relieve
from cache_manager.application.sweep import correct_charges
from cache_manager.domain.charge import EVERY_SITE, Charge
from cache_manager.domain.retention import Rule
from millrace.clock import new_id

pytestmark = pytest.mark.servers


async def held(manager: Any, site: str, project: str = "default") -> Charge:
    found = {quota.site: quota.charged for quota in await manager.world.quotas.all(project)}
    return found.get(site, Charge())


@pytest.mark.parametrize("scope", ["nfs-a", EVERY_SITE])
async def test_a_projects_quota_bounds_it_and_presses_only_its_own(lab: Any, manager: Any, scope: str) -> None:
    policy = CachePolicy(manager.world)
    await policy.limit(scope, "default", Charge(80_000, 10_000), "anna")
    foreign = await lab.version(9, project="other")
    await lab.ask(manager, foreign, project="other")
    await lab.until_state(manager, lab.key(foreign, project="other"), "READY")
    versions = [await lab.version(number) for number in (1, 2, 3)]
    for version in versions[:2]:
        await lab.ready(manager, version)
    await lab.set(versions[1], uses=1, heat=9.0, fill_seconds=1.0)
    await lab.set(versions[0], uses=1, heat=0.5, fill_seconds=1.0)

    await lab.ready(manager, versions[2])

    states = [(await manager.world.entries.get(lab.key(version).id)).state for version in versions]
    assert states[0] in {"TRASHED", "ABSENT"}
    assert states[1:] == ["READY", "READY"]
    assert (await manager.world.entries.get(lab.key(foreign, project="other").id)).state == "READY"
    await lab.until_state(manager, lab.key(versions[0]), "ABSENT")
    assert (await held(manager, scope)).bytes == 72_000
    assert (await held(manager, scope, "other")).bytes == 36_000
    assert await lab.violations(manager) == []


async def test_what_never_fits_a_quota_fails_and_what_is_held_is_told(lab: Any, manager: Any) -> None:
    policy, (one, two) = CachePolicy(manager.world), [await lab.version(number) for number in (1, 2)]
    await policy.limit(EVERY_SITE, "default", Charge(1_000, 10), "anna")
    await lab.ask(manager, one)
    failed = await lab.until_state(manager, lab.key(one), "FAILED")
    assert "never fit into the quota of project default at all sites" in failed.reason

    await policy.limit(EVERY_SITE, "default", Charge(40_000, 10_000), "anna")
    await lab.ready(manager, one)
    await acquire_lease(AcquireLease(str(new_id()), "nfs-a", "default", "digits", one.commit), world=manager.world)
    await lab.ask(manager, two)
    waiting = await lab.until_state(manager, lab.key(two), "WAIT_SPACE")
    assert "the quota of project default at all sites is full" in waiting.reason
    assert "enlarge the quota" in waiting.reason
    await policy.limit(EVERY_SITE, "default", None, "anna")
    await lab.until_state(manager, lab.key(two), "READY")


async def test_charges_that_no_entry_accounts_for_are_dropped(lab: Any, manager: Any) -> None:
    version = await lab.version()
    entry = await lab.ready(manager, version)
    database = lab.client[lab.database]
    for collection in ("sites", "quotas"):
        await database[collection].update_many({}, {"$inc": {"charged.bytes": 5_000}})
    assert len(await lab.violations(manager)) == 3
    await correct_charges(manager.world)
    assert await lab.charged(manager) == await held(manager, "nfs-a") == entry.charge
    assert await lab.violations(manager) == []


async def test_pressure_works_from_the_high_mark_down_to_the_low_one(lab: Any, manager: Any) -> None:
    versions = [await lab.version(number) for number in range(1, 6)]
    for version in versions:
        await lab.ready(manager, version)
    for version, heat in zip(versions, (5.0, 0.1, 4.0, 0.2, 3.0), strict=True):
        await lab.set(version, heat=heat, uses=1, fill_seconds=1.0)
    assert await relieve(await manager.world.sites.get("nfs-a"), manager.world) == 0
    await manager.world.sites.change("nfs-a", capacity=Charge(190_000, 100_000))

    gone = await relieve(await manager.world.sites.get("nfs-a"), manager.world)

    states = [(await manager.world.entries.get(lab.key(version).id)).state for version in versions]
    assert (gone, states) == (1, ["READY", "EVICTING", "READY", "READY", "READY"])
    assert await relieve(await manager.world.sites.get("nfs-a"), manager.world) == 0


async def test_what_was_just_brought_is_not_pressed_out_before_its_first_use(lab: Any, manager: Any) -> None:
    version = await lab.version()
    await lab.ready(manager, version)
    await manager.world.sites.change("nfs-a", capacity=Charge(36_001, 1_000))
    assert await relieve(await manager.world.sites.get("nfs-a"), manager.world) == 0
    await lab.set(version, idle_seconds=3_600.0)
    assert await relieve(await manager.world.sites.get("nfs-a"), manager.world) == 1


@pytest.mark.parametrize("scope", ["site", "project", "dataset"])
async def test_the_narrowest_age_out_rule_counts(lab: Any, manager: Any, scope: str) -> None:
    """Each wider rule would let the copy go, each narrower one keeps it."""
    version, policy = await lab.version(), CachePolicy(manager.world)
    await lab.ready(manager, version)
    await manager.world.sites.change("nfs-a", age_out=1e6 if scope == "site" else 10.0)
    if scope != "site":
        await policy.set_rule(Rule("default", None, 1e6 if scope == "project" else 10.0), "anna")
    if scope == "dataset":
        await policy.set_rule(Rule("default", "digits", 1e6), "anna")
    entry = lab.key(version).id
    await age(manager.world, 90_000.0)
    assert (await manager.world.entries.get(entry)).state == "READY"
    shown = await Cache(manager.world).why(entry, "default")
    assert (shown["age_out"]["rule"], shown["age_out"]["left_seconds"]) == (scope, 910_000.0)

    await age(manager.world, 1e6)
    assert (await manager.world.entries.get(entry)).state == "EVICTING"


async def test_uses_count_half_after_a_day(lab: Any, manager: Any) -> None:
    version = await lab.version()
    await lab.ready(manager, version)
    command = AcquireLease(str(new_id()), "nfs-a", "default", "digits", version.commit)
    await acquire_lease(command, world=manager.world)
    await acquire_lease(command, world=manager.world)
    await age(manager.world, 86_400.0)
    assert (await manager.world.entries.get(lab.key(version).id)).heat == pytest.approx(1.0)


async def test_a_plan_names_bytes_requests_and_victims_and_changes_nothing(lab: Any) -> None:
    site = ({"site": "nfs-a", "path": str(lab.site), "capacity_bytes": 80_000},)
    manager = await lab.manager(sites=site)
    cache, versions = Cache(manager.world), [await lab.version(number) for number in (1, 2, 3)]
    for version in versions[:2]:
        await lab.ready(manager, version)
    await lab.set(versions[0], uses=1, heat=0.1, fill_seconds=1.0)

    there = await cache.plan("default", "digits", "1", None)
    planned = await cache.plan("default", "digits", "3", "nfs-a")

    assert [it["verdict"] for it in there["sites"]] == ["ready"]
    [option] = planned["sites"]
    assert (option["verdict"], option["victims"]) == ("evicts", [lab.key(versions[0]).id])
    assert (option["missing_bytes"], option["requests"], option["seconds"] > 0) == (36_000, 1, True)
    assert await manager.world.entries.get(lab.key(versions[2]).id) is None
