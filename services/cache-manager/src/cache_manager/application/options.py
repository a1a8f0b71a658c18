"""What it would take to have a version at each site: the one answer behind `plan`, `why` and placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cache_manager.application.pressing import competing
from cache_manager.application.space import named, needed
from cache_manager.application.world import World
from cache_manager.domain.charge import EVERY_SITE, Charge, Quota, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.names import EntryKey
from cache_manager.domain.score import victims
from cache_manager.domain.selection import Selection
from cache_manager.domain.states import PUBLISHED, State

Verdict = Literal["ready", "under way", "fits", "evicts", "waits", "never", "draining", "unreachable"]

COMING = (State.FETCHING, State.VERIFYING)
USABLE = frozenset({"ready", "under way", "fits", "evicts"})


@dataclass(frozen=True)
class Option:
    """A site for a version. `missing` bytes would come from the lake in `objects` requests.

    `seconds`: to fetch what others wait for there and these, and for a run to read everything once.
    """

    site: str
    verdict: Verdict
    reason: str
    need: Charge
    missing: int
    objects: int
    seconds: float
    victims: Sequence[str] = field(default_factory=tuple)

    @property
    def usable(self) -> bool:
        """Return whether a run could count on it."""
        return self.verdict in USABLE

    def shown(self) -> dict[str, Any]:
        """Return it as people see it."""
        return {
            "site": self.site,
            "verdict": self.verdict,
            "reason": self.reason,
            "bytes": self.need.bytes,
            "inodes": self.need.inodes,
            "missing_bytes": self.missing,
            "requests": self.objects,
            "seconds": round(self.seconds, 3),
            "victims": list(self.victims),
        }


async def option(key: EntryKey, selection: Selection, site: Site, world: World) -> Option:
    """Return what it would take to have a copy at a site. Reads the version's manifest, and changes nothing.

    Raises:
        NotFound, Corrupt, Unavailable: what the lake says of the version.
    """
    facts = await world.lake.facts(key.project, key.commit, selection)
    need = needed(facts)
    entry = await world.entries.get(key.id)
    folder = world.folders(site.id)
    problem = "not opened by this process yet" if folder is None else await folder.problem()
    if problem is not None:
        return Option(site.id, "unreachable", problem, need, need.bytes, facts.objects, 0.0)
    running = site.links.run_seconds(facts.stored_bytes, facts.stored_files)
    if entry is not None and entry.desired == "present" and entry.state in PUBLISHED:
        return Option(site.id, "ready", "its copy is complete", need, 0, 0, running)
    missing = need.bytes if entry is None or not entry.charge else round(need.bytes * (1.0 - entry.progress))
    seconds = site.links.fetch_seconds(await _queued(key, site, world) + missing) + running
    verdict, reason, gone = await _room(key, entry, need, site, world)
    return Option(site.id, verdict, reason, need, missing, facts.objects, seconds, gone)


async def _queued(key: EntryKey, site: Site, world: World) -> int:
    """Return the bytes that are on their way to a site for others."""
    coming = await world.entries.find({"site": site.id, "state": COMING, "desired": "present"}, limit=100_000)
    return sum(round(other.bytes * (1.0 - other.progress)) for other in coming if other.id != key.id)


async def _room(
    key: EntryKey, entry: Entry | None, need: Charge, site: Site, world: World
) -> tuple[Verdict, str, Sequence[str]]:
    if entry is not None and entry.charge and entry.desired == "present":
        return "under way", entry.reason or f"it is {entry.state.value}", ()
    if site.draining:
        return "draining", "nothing new comes to a site that is drained", ()
    asking = entry or Entry(key.site, key.project, key.commit, "", 1)
    more = need - asking.charge
    gone: list[str] = []
    for full, limit, free in await _bounds(asking, site, world):
        what = f"site {site.id}" if full is None else named(full)
        if not need.fits(limit):
            return "never", f"{what} could not hold it if it were empty", ()
        if more.fits(free):
            continue
        where = {**competing(asking, full), "state": State.READY}
        ready = [it for it in await world.entries.find(where, limit=100_000) if it.id not in gone]
        chosen = victims(ready, more - free)
        if not chosen:
            return "waits", f"{what} is full, and everything there is held", ()
        gone += [victim.id for victim in chosen]
    if gone:
        return "evicts", f"{len(gone)} unused entries would go", gone
    return "fits", "there is room", ()


async def _bounds(asking: Entry, site: Site, world: World) -> list[tuple[Quota | None, Charge, Charge]]:
    """Return (quota or None for the site, limit, free) of everything that bounds the entry."""
    found: list[tuple[Quota | None, Charge, Charge]] = [(None, site.capacity, site.free)]
    found.extend(
        (quota, quota.limit, quota.free)
        for quota in await world.quotas.all(asking.project)
        if quota.site in {site.id, EVERY_SITE} and quota.limit is not None and quota.free is not None
    )
    return found
