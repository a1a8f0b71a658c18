"""Invariant I7: what is READY is complete at its final path, room is what entries are charged for, nothing is stray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cache_manager.application.ports import Unit
from cache_manager.application.site_ports import SiteFolder
from cache_manager.application.sweep import BUILDING, Sums, incomplete, total
from cache_manager.application.world import World
from cache_manager.domain.charge import EVERY_SITE, Quota, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.names import key_of
from cache_manager.domain.states import SHOWN, State

SETTLE_SECONDS = 0.5
GONE = frozenset({State.ABSENT, State.FAILED})


@dataclass(frozen=True)
class Violation:
    """A broken invariant, and where."""

    what: str
    where: str


async def fsck(world: World, *, deep: bool = False) -> dict[str, Any]:
    """Check every site and return what is broken. `deep` reads every byte again.

    Work goes on meanwhile, so that only what two looks find counts.
    """
    checked, found = await _look(world, deep=deep)
    if found:
        await world.clock.sleep(SETTLE_SECONDS)
        checked, again = await _look(world, deep=deep)
        found &= again
    rows = sorted(found, key=lambda violation: (violation.where, violation.what))
    return {
        "service": "cache-manager",
        "checked": checked,
        "violations": [{"invariant": "I7", "what": row.what, "where": row.where} for row in rows],
    }


async def _look(world: World, *, deep: bool) -> tuple[int, set[Violation]]:
    found = await _charges(world)
    sites = await world.sites.all()
    checked = len(sites)
    for site in sites:
        folder = world.folders(site.id)
        problem = "it is not known to this process yet" if folder is None else await folder.problem()
        if folder is None or problem is not None:
            found.add(Violation(f"cannot be checked: {problem}", f"site:{site.id}"))
            continue
        found |= await _strays(site, folder, world)
        ready = await world.entries.find({"site": site.id, "state": State.READY}, limit=100_000)
        checked += len(ready)
        for entry in ready:
            found |= await _entry(entry, folder, world, deep=deep)
    return checked, found


async def _charges(world: World) -> set[Violation]:
    async def work(uow: Unit) -> tuple[list[Site], list[Quota], Sums]:
        return await uow.sites.all(), await uow.quotas.all(), await uow.entries.charged()

    sites, quotas, sums = await world.transact(work)
    found = _quotas(quotas, sums)
    for site in sites:
        where = f"site:{site.id}"
        charged = total(sums, site=site.id)
        if site.charged != charged:
            found.add(Violation(f"charged {site.charged}, while its entries sum up to {charged}", where))
        if not site.charged.fits(site.capacity):
            found.add(Violation(f"charged {site.charged} of a capacity of {site.capacity}", where))
    return found


def _quotas(quotas: list[Quota], sums: Sums) -> set[Violation]:
    found = set()
    for quota in quotas:
        site = None if quota.site == EVERY_SITE else quota.site
        charged = total(sums, site=site, project=quota.project)
        if quota.charged != charged:
            found.add(Violation(f"counts {quota.charged}, while the entries sum up to {charged}", f"quota:{quota.id}"))
    return found


async def _entry(entry: Entry, folder: SiteFolder, world: World, *, deep: bool) -> set[Violation]:
    reason = await incomplete(entry, folder)
    if reason is None and deep:
        facts = await world.lake.facts(entry.project, entry.commit, entry.selection)
        damaged = await world.lake.damaged(entry.project, facts, folder.path(entry.key))
        reason = f"{len(damaged)} files are damaged, first {damaged[0]}" if damaged else None
    return {Violation(reason, f"entry:{entry.id}")} if reason else set()


async def _strays(site: Site, folder: SiteFolder, world: World) -> set[Violation]:
    listed = await folder.found()
    entries = {entry.id: entry for entry in await world.entries.find({"site": site.id}, limit=100_000)}
    found = set()
    for project, copy in listed.trees:
        entry = entries.get(key_of(site.id, project, copy).id)
        if entry is None or entry.state in GONE:
            found.add(Violation("a tree at a final path that no entry owns", f"site:{site.id}/v/{project}/{copy}"))
    for name in listed.staging:
        entry = entries.get(name.rpartition(".")[0])
        if entry is None or entry.state not in BUILDING:
            found.add(Violation("a staging folder that nobody fills", f"site:{site.id}/.staging/{name}"))
    for name in listed.early:
        if name not in entries or entries[name].state not in SHOWN:
            found.add(Violation("packs shown of an entry that nobody fills", f"site:{site.id}/.early/{name}"))
    for name in listed.trash:
        entry = entries.get(name.rpartition(".")[0])
        if entry is None or entry.state in GONE:
            found.add(Violation("trash that no entry is charged for", f"site:{site.id}/.trash/{name}"))
    return found
