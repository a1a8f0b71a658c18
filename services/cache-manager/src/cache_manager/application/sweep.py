"""What lies on a site against what is remembered: adopt whole trees, drop what nobody owns, find what is damaged."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from cache_manager.application.ports import Unit
from cache_manager.application.site_ports import Found, Marker, SiteFolder
from cache_manager.application.world import World
from cache_manager.domain.charge import EVERY_SITE, Charge, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.names import EntryKey, key_of
from cache_manager.domain.states import SHOWN, Move, State
from millrace.errors import Fenced
from millrace.leases.beats import Beats

log = structlog.get_logger(__name__)

BUILDING = frozenset({State.FETCHING, State.VERIFYING, State.REPAIRING})
HOLDING = frozenset({State.QUEUED, State.WAIT_SPACE, State.FETCHING, State.VERIFYING, State.EVICTING, State.TRASHED})
"""States in which the trash may hold a tree that the entry's worker takes back or deletes."""

Sums = Mapping[tuple[str, str], Charge]
"""What entries are charged with, by site and project."""


class Sweep:
    """Sweeps the sites; remembers for how long it has seen a stray tree in the trash."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._strays = Beats()

    async def all(self) -> None:
        """Correct charges that no entry accounts for, and sweep every site that can be reached."""
        await correct_charges(self._world)
        for site in await self._world.sites.all():
            folder = self._world.folders(site.id)
            if folder is not None and await folder.problem() is None:
                await self.one(site, folder)

    async def one(self, site: Site, folder: SiteFolder) -> None:
        """Sweep one site. The disk is read before the database: tokens only rise, so nothing alive looks stale."""
        found = await folder.found()
        entries = {entry.id: entry for entry in await self._world.entries.find({"site": site.id}, limit=100_000)}
        for project, copy in found.trees:
            key = key_of(site.id, project, copy)
            await self._tree(key, entries.get(key.id), folder)
        await self._staging(found, entries, folder)
        for name in found.early:
            if name not in entries or entries[name].state not in SHOWN:
                await folder.remove(".early", name)
        await self._trash(found, entries, folder)
        for name in found.aside:
            entry = entries.get(name.rpartition(".")[0])
            if entry is None or not entry.charge:
                await folder.remove(".quarantine", name)
        for entry in entries.values():
            if entry.state is State.READY:
                await self._ready(entry, folder)

    async def _tree(self, key: EntryKey, entry: Entry | None, folder: SiteFolder) -> None:
        """Remember a whole tree that the database forgot; its worker verifies it. Anything else is trash."""
        if entry is not None and (entry.state is not State.ABSENT or entry.desired == "present"):
            return
        marker = await folder.marker(key)
        if entry is None and marker is not None and marker.key == key:
            await self._world.entries.add(_adopted(marker, self._world))
            log.warning("a tree that the database did not know is adopted", entry=key.id)
            self._world.kick()
            return
        await folder.trash(key)
        log.warning("a stray tree is removed", entry=key.id)

    async def _staging(self, found: Found, entries: dict[str, Entry], folder: SiteFolder) -> None:
        for name in found.staging:
            entry = entries.get(name.rpartition(".")[0])
            if entry is None or entry.state not in BUILDING:  # else whoever builds goes on with it, or deletes it
                await folder.remove(".staging", name)
                log.info("stale staging folder removed", name=name)

    async def _trash(self, found: Found, entries: dict[str, Entry], folder: SiteFolder) -> None:
        now = self._world.clock.monotonic()
        self._strays.keep({(str(folder.root), name) for name in found.trash})
        for name in found.trash:
            entry = entries.get(name.rpartition(".")[0])
            if entry is not None and entry.state in HOLDING:
                continue
            silence = self._strays.silence((str(folder.root), name), name, now)
            if silence >= self._world.limits.patience.grace:
                await folder.remove(".trash", name)
                log.info("stray trash removed", name=name)

    async def _ready(self, entry: Entry, folder: SiteFolder) -> None:
        reason = await incomplete(entry, folder)
        if reason is None or await folder.problem() is not None:  # an export that went away meanwhile is no damage
            return
        log.error("a copy that should be whole is not", entry=entry.id, reason=reason)
        try:
            await self._world.entries.move(entry, Move.FIND_DAMAGE, reason=reason, attempts=0)
        except Fenced:
            return
        self._world.kick()


async def incomplete(entry: Entry, folder: SiteFolder) -> str | None:
    """Return what is wrong with a ready entry's tree, as far as names and sizes tell; None if nothing is."""
    marker = await folder.marker(entry.key)
    if marker is None:
        return "its tree, or the mark that it is whole, is missing at the final path"
    if (marker.tree_root, marker.files, marker.bytes) != (entry.tree_root, entry.files, entry.bytes):
        return "the tree at the final path is another one"
    files, size = await folder.measure(entry.key)
    stored = entry.stored or Charge(entry.bytes, entry.files)
    if Charge(size, files) != stored:
        return f"its tree has {files} files of {size} bytes, and should have {stored.inodes} of {stored.bytes}"
    return None


def _adopted(marker: Marker, world: World) -> Entry:
    return Entry(
        site=marker.site,
        project=marker.project,
        commit=marker.commit,
        dataset=marker.dataset,
        version=marker.version,
        mode=marker.mode,
        paths=marker.paths,
        reason="found on the site; waiting to be verified",
        created_at=world.clock.now(),
    )


async def correct_charges(world: World) -> None:
    """Let sites and quotas be charged with what the entries sum up to; a restored or older database may differ."""

    async def work(uow: Unit) -> list[str]:
        sums, wrong = await uow.entries.charged(), []
        for site in await uow.sites.all():
            charged = total(sums, site=site.id)
            if charged != site.charged:
                await uow.sites.correct(site.id, charged)
                wrong.append(site.id)
        known = {(quota.site, quota.project): quota.charged for quota in await uow.quotas.all()}
        if any(known.get(key) != amount for key, amount in sums.items()) or any(
            amount != total(sums, site=None if site == EVERY_SITE else site, project=project)
            for (site, project), amount in known.items()
        ):
            await uow.quotas.correct(sums)
            wrong.append("quotas")
        return wrong

    for name in await world.transact(work):
        log.error("charges did not match the entries and are corrected", where=name)


def total(sums: Sums, *, site: str | None, project: str | None = None) -> Charge:
    """Return the sum of the charges at a site (at all if None) of a project (of all if None)."""
    chosen = (amount for (where, whose), amount in sums.items() if site in {None, where} and project in {None, whose})
    return sum(chosen, Charge())
