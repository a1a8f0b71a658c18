"""Why an entry is as it is: what it waits for, who holds it, when it would go and what would go before it."""

from __future__ import annotations

from typing import Any

from cache_manager.application import views
from cache_manager.application.options import Option, option
from cache_manager.application.space import quotas_of
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.names import EntryKey
from cache_manager.domain.retention import Retention
from cache_manager.domain.score import order, refetch_seconds, score
from cache_manager.domain.selection import WHOLE, Selection
from cache_manager.domain.states import FILLING, PUBLISHED, State
from cache_manager.errors import NoSiteError
from millrace.errors import MillraceError


async def why(entry: Entry, world: World) -> dict[str, Any]:
    """Return everything that decides over an entry, and how the other sites would do."""
    site = await world.sites.get(entry.site)
    return {
        "entry": entry.id,
        "state": entry.state.value,
        "reason": _reason(entry),
        "held_by": _holders(entry),
        "age_out": await _age_out(entry, world) if entry.state is State.READY else None,
        "pressure": await _pressure(entry, world) if entry.state is State.READY else None,
        "site_free_bytes": None if site is None else site.free.bytes,
        "site_free_inodes": None if site is None else site.free.inodes,
        "quotas": [views.quota(quota) for quota in await quotas_of(entry, world)],
        "sites": await _sites(entry, world),
    }


def _reason(entry: Entry) -> str:
    if told := views.reason(entry):
        if entry.leases and entry.state in FILLING and entry.desired == "absent":
            return f"{told}; it goes as soon as nobody reads it"
        return told
    if entry.state in PUBLISHED and entry.desired == "absent":
        return "it goes as soon as nobody holds it"
    return "it is there and complete" if entry.state is State.READY else f"it is {entry.state.value}"


def _holders(entry: Entry) -> list[str]:
    leases = [f"lease of run {run}" for run in sorted(entry.leases)]
    return leases + [f"pin {name} by {pin.by}" for name, pin in sorted(entry.pins.items())]


async def _age_out(entry: Entry, world: World) -> dict[str, Any]:
    rules = Retention(await world.rules.all(), await world.sites.all(), world.limits.age_out)
    limit = rules.limit(entry)
    left = None if limit.seconds is None or entry.leases else max(0.0, limit.seconds - entry.idle_seconds)
    return {
        "limit_seconds": limit.seconds,
        "rule": limit.source,
        "idle_seconds": round(entry.idle_seconds, 1),
        "left_seconds": None if left is None else round(left, 1),
    }


async def _pressure(entry: Entry, world: World) -> dict[str, Any]:
    """Return the entry's score, and how many at its site would go before it."""
    ready = await world.entries.find({"site": entry.site, "state": State.READY}, limit=100_000)
    ranked = [other.id for other in order(ready)]
    return {
        "score": round(score(entry), 6),
        "heat": round(entry.heat, 4),
        "refetch_seconds": round(refetch_seconds(entry), 3),
        "goes_after": ranked.index(entry.id) if entry.id in ranked else None,
        "of": len(ranked),
    }


async def _sites(entry: Entry, world: World) -> list[dict[str, Any]]:
    """Return how each site would do, best first; nothing where the lake cannot say."""
    try:
        return await ranked(entry.project, entry.commit, world, selection=entry.selection)
    except MillraceError as error:
        return [{"site": entry.site, "verdict": "unknown", "reason": error.message}]


async def ranked(
    project: str, commit: str, world: World, *, site: str | None = None, selection: Selection = WHOLE
) -> list[dict[str, Any]]:
    """Return what it would take to have a copy of a version at each site (or at one), the best first."""
    return [it.shown() for it in await options(project, commit, world, site=site, selection=selection)]


async def options(
    project: str, commit: str, world: World, *, site: str | None = None, selection: Selection = WHOLE
) -> list[Option]:
    """Return the sites for a version: those that can take it first, and of them the quickest."""
    sites = [it for it in await world.sites.all() if site is None or it.id == site]
    keys = {it.id: EntryKey(it.id, project, commit, selection.variant) for it in sites}
    found = [await option(keys[it.id], selection, it, world) for it in sites]
    return sorted(found, key=lambda it: (not it.usable, it.seconds, it.site))


async def best(project: str, commit: str, selection: Selection, world: World) -> str:
    """Return the site where a run would have read a version soonest.

    Raises:
        NoSiteError: none can take it; says why, site by site.
    """
    found = await options(project, commit, world, selection=selection)
    if not found or not found[0].usable:
        reasons = "; ".join(f"{it.site}: {it.reason}" for it in found) or "there are no sites"
        raise NoSiteError(f"no site can take it: {reasons}", hint="`millrace cache plan` says more")
    return found[0].site
