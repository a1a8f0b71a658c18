"""Pins keep a copy whatever happens; draining empties a site around them."""

from __future__ import annotations

from typing import Any

import pytest

from cache_manager.application.cache import Cache
from cache_manager.application.housekeeping import age, drain
from cache_manager.application.pressing import relieve
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Cause
from cache_manager.errors import Pinned, SiteDraining, SiteInUse
from millrace.errors import Conflict, NotFound

pytestmark = pytest.mark.servers

ANNA = Cause(principal="anna")
WEEK = 7 * 86_400.0


async def pinned(lab: Any, cache: Cache, version: Any) -> str:
    entry = lab.key(version).id
    shown = await cache.pin(entry, "default", "paper", "figure 3", ANNA)
    assert [(pin["pin"], pin["by"], pin["reason"]) for pin in shown["pins"]] == [("paper", "anna", "figure 3")]
    return str(entry)


async def test_a_pin_outlives_age_pressure_and_clear(lab: Any, manager: Any, cache: Cache) -> None:
    version = await lab.version()
    await lab.ready(manager, version)
    entry = await pinned(lab, cache, version)
    await age(manager.world, WEEK)
    await manager.world.sites.change("nfs-a", capacity=Charge(36_001, 1_000))
    assert await relieve(await manager.world.sites.get("nfs-a"), manager.world) == 0
    with pytest.raises(Pinned):
        await cache.request_absent(entry, "default", ANNA)
    await lab.ask(manager, version, desired="absent")
    for _ in range(3):
        await lab.step(manager)
    assert (await manager.world.entries.get(entry)).state == "READY"

    await cache.unpin(entry, "default", "paper", ANNA)
    await lab.until_state(manager, lab.key(version), "ABSENT")
    assert await lab.violations(manager) == []


async def test_a_pin_needs_something_that_stays(lab: Any, manager: Any, cache: Cache) -> None:
    version = await lab.version()
    with pytest.raises(NotFound):
        await cache.pin(lab.key(version).id, "default", "paper", "", ANNA)
    await lab.ready(manager, version)
    with pytest.raises(NotFound):
        await cache.unpin(lab.key(version).id, "default", "paper", ANNA)
    with pytest.raises(NotFound):
        await cache.pin(lab.key(version).id, "other", "paper", "", ANNA)
    await lab.ask(manager, version, desired="absent")
    with pytest.raises(Conflict):
        await cache.pin(lab.key(version).id, "default", "paper", "", ANNA)


async def test_a_drained_site_empties_refuses_and_can_be_removed(lab: Any, manager: Any, cache: Cache) -> None:
    kept, idle, late = [await lab.version(number) for number in (1, 2, 3)]
    for version in (kept, idle):
        await lab.ready(manager, version)
    entry = await pinned(lab, cache, kept)
    shown = await cache.drain_site("nfs-a", "anna", draining=True)
    assert (shown["state"], shown["reason"]) == ("draining", "2 entries are still there, held by 0 leases and 1 pins")

    await drain(await manager.world.sites.get("nfs-a"), manager.world)
    await lab.until_state(manager, lab.key(idle), "ABSENT")
    with pytest.raises(SiteDraining):
        await cache.request_present("nfs-a", "default", "digits", "3", ANNA)
    await lab.ask(manager, late)
    await lab.step(manager)
    assert "being drained" in (await manager.world.entries.get(lab.key(late).id)).reason
    with pytest.raises(SiteInUse):
        await cache.remove_site("nfs-a", "anna")

    await cache.unpin(entry, "default", "paper", ANNA)
    await drain(await manager.world.sites.get("nfs-a"), manager.world)
    await lab.until_state(manager, lab.key(kept), "ABSENT")
    await cache.remove_site("nfs-a", "anna")
    assert await cache.list_sites("default") == []
    assert list(lab.site.iterdir()) == []


async def test_a_site_of_the_settings_is_not_removed(manager: Any) -> None:
    with pytest.raises(SiteInUse, match="settings name"):
        await Cache(manager.world, fixed=frozenset({"nfs-a"})).remove_site("nfs-a", "anna")


async def test_an_undrained_site_takes_what_waited(lab: Any, manager: Any, cache: Cache) -> None:
    version = await lab.version()
    await cache.drain_site("nfs-a", "anna", draining=True)
    await lab.ask(manager, version)
    await lab.step(manager)
    await cache.drain_site("nfs-a", "anna", draining=False)
    await lab.until_state(manager, lab.key(version), "READY")
