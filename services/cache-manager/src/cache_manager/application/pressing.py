"""Eviction under pressure: by what a copy's loss would cost, never under a lease or a pin."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from cache_manager.application.world import World
from cache_manager.domain.charge import EVERY_SITE, Charge, Quota, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.score import fresh, order, victims
from cache_manager.domain.states import State

log = structlog.get_logger(__name__)


async def press(entry: Entry, missing: Charge, full: Quota | None, world: World) -> int:
    """Evict as few entries as make the room that `entry` lacks; none if all together would not. Return how many."""
    if missing.bytes <= 0 and missing.inodes <= 0:
        return 0
    where = competing(entry, full)
    ready = await world.entries.find({**where, "state": State.READY}, limit=100_000)
    return await _evict(victims((other for other in ready if other.id != entry.id), missing), world)


def competing(entry: Entry, full: Quota | None) -> dict[str, str]:
    """Return which entries compete with `entry` for the room that is missing."""
    if full is None:
        return {"site": entry.site}
    return {"project": entry.project} if full.site == EVERY_SITE else {"site": entry.site, "project": entry.project}


async def relieve(site: Site, world: World) -> int:
    """Bring a site that is filled above the high mark down to the low one; return how many entries go.

    What was brought for somebody who has not come yet stays: it would only be fetched again.
    """
    limits, entries = world.limits, await world.entries.find({"site": site.id}, limit=100_000)
    leaving = sum((it.charge for it in entries if it.state in {State.EVICTING, State.TRASHED}), Charge())
    kept = site.charged - leaving
    if kept.fits(_part(site.capacity, limits.high_mark)):
        return 0
    over, chosen = kept - _part(site.capacity, limits.low_mark), []
    for entry in order(it for it in entries if it.state is State.READY and not fresh(it)):
        if over.bytes <= 0 and over.inodes <= 0:
            break
        chosen.append(entry)
        over -= entry.charge
    return await _evict(chosen, world)


def _part(whole: Charge, share: float) -> Charge:
    return Charge(int(whole.bytes * share), int(whole.inodes * share))


async def _evict(chosen: Sequence[Entry], world: World) -> int:
    gone = [await world.entries.evict(entry, reason="pressure", only_if_wished=entry.desired) for entry in chosen]
    count = sum(1 for entry in gone if entry is not None)
    if count:
        log.info("evicted under pressure", entries=count)
        world.kick()
    return count
