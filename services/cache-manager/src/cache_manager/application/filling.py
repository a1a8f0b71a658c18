"""Filling an entry: reserve, stage, fetch, verify, publish by rename, announce.

Every step may be the last before a crash. Whoever continues has a higher token, builds in a staging folder of its
own, and adopts a tree that is whole at its final path already.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import structlog

from cache_manager.application import announce, metrics
from cache_manager.application.lake_ports import Filled, Near, VersionFacts
from cache_manager.application.ports import Unit
from cache_manager.application.reporting import Progress, reported
from cache_manager.application.site_ports import Marker, SiteFolder
from cache_manager.application.space import reserve
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move, State
from millrace.datasets.shelf import Shelf
from millrace.errors import Corrupt, MillraceError
from millrace.failpoints import fp
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)

SAMPLE_BYTES = 4 * 1024 * 1024
"""Fewer bytes say nothing about a link."""


async def fill(entry: Entry, lease: Lease, world: World) -> None:
    """Bring the version to its final path, or leave the entry waiting for room."""
    started = world.clock.monotonic()
    folder = await world.folder(entry.site)
    facts = await world.lake.facts(entry.project, entry.commit, entry.selection)
    if entry.charge:  # a copy taken back from the trash is charged with itself only
        await folder.forget_aside(entry.key)
    reserved = await reserve(entry, facts, lease, world)
    if reserved is None:
        return
    adopted = await adopt(reserved, facts, lease, folder, world)
    if adopted is None:
        adopted = await _fetch(reserved, facts, lease, folder, world)
    await folder.empty(entry.key)
    await folder.hide(entry.key)
    landed, filled = adopted
    seconds = world.clock.monotonic() - started
    await _confirm(landed, filled, lease, folder.path(entry.key), seconds=seconds, world=world)


async def adopt(
    entry: Entry, facts: VersionFacts, lease: Lease, folder: SiteFolder, world: World
) -> tuple[Entry, Filled] | None:
    """Verify a tree that lies at the final path, or in the trash, already; None if there is none that is good."""
    if await folder.marker(entry.key) is None and not await folder.restore(entry.key):
        return None
    marker = await folder.marker(entry.key)
    if marker is not None and marker.tree_root == facts.tree_root:
        damaged = await world.lake.damaged(entry.project, facts, folder.path(entry.key))
        if not damaged:
            landed = await _land(entry, lease, 0, world)
            return landed, Filled(facts.tree_root, facts.files, facts.bytes, fetched_bytes=0)
        log.warning("a copy is damaged and is fetched again", entry=entry.id, files=len(damaged), first=damaged[0])
    await clear_way(entry, folder)
    return None


async def clear_way(entry: Entry, folder: SiteFolder) -> None:
    """Take away a tree at the final path that nobody was ever allowed to open."""
    await folder.trash(entry.key)
    await folder.empty(entry.key)


async def _fetch(
    entry: Entry, facts: VersionFacts, lease: Lease, folder: SiteFolder, world: World
) -> tuple[Entry, Filled]:
    filled = await build(entry, facts, lease, folder, world)
    if entry.adopt_from:
        await folder.protect(entry.key, lease.token)
    landed = await _land(entry, lease, filled.fetched_bytes, world)
    await fp("fill.C4.before")
    check(filled, facts)
    await finish(landed, lease, folder)
    return landed, filled


async def build(
    entry: Entry, facts: VersionFacts, lease: Lease, folder: SiteFolder, world: World, *, anew: bool = True
) -> Filled:
    """Write the version's files into this token's staging folder, each blob verified, telling how far it is."""
    await fp("fill.C2.before")
    resumed = await _begin(entry, lease, folder) if anew else False
    if anew and entry.adopt_from and await folder.holds(entry.adopt_from):
        await folder.link_from(entry.adopt_from, entry.key, lease.token)
    target: Path = folder.staging(entry.key, lease.token)
    progress = Progress(facts.bytes)
    near = await _ancestor(entry, folder, world)
    shelf = _shelf(entry, progress, folder, world) if anew and entry.mode == "packs" else None
    work = world.lake.fill(entry.project, facts, target, progress, near=near, shelf=shelf, resumed=resumed)
    filled = await reported(entry, progress, work, world)
    metrics.FETCHED.labels(entry.site).inc(filled.fetched_bytes)
    metrics.LINKED.labels(entry.site).inc(filled.linked_bytes)
    if near is not None:
        log.info("filled from what is near", entry=entry.id, ancestor=near.commit, linked_bytes=filled.linked_bytes)
    return filled


async def _begin(entry: Entry, lease: Lease, folder: SiteFolder) -> bool:
    """Go on with the files that an earlier attempt fetched, if there are any; packs wait on the shelf for that."""
    if entry.mode == "packs" or entry.adopt_from:
        await folder.begin(entry.key)
        return False
    files = await folder.resume(entry.key, lease.token)
    if files:
        log.info("a fill that was broken off is gone on with", entry=entry.id, files=files)
    return files > 0


def _shelf(entry: Entry, progress: Progress, folder: SiteFolder, world: World) -> Shelf:
    """Return where packs are shown as they land. From when the manifest is there runs may begin to read."""

    async def opened() -> None:
        if not entry.readable:
            await world.entries.note(entry, readable=True, uses=0)

    return Shelf(folder.shelf(entry.key), progress.turns, opened)


async def _ancestor(entry: Entry, folder: SiteFolder, world: World) -> Near | None:
    """Return the copy of the dataset to link from: of this version, else the newest before it, else the next.

    It needs no lease: it is held open, a rename does not move it, and what is deleted from under us is fetched.
    """
    where = {"site": entry.site, "project": entry.project, "dataset": entry.dataset, "state": State.READY}
    alike = [it for it in await world.entries.find(where) if it.id != entry.id and it.mode == entry.mode]
    if not alike:
        return None
    best = min(alike, key=lambda it: _distance(it, entry))
    return Near(best.commit, folder.path(best.key), best.selection)


def _distance(other: Entry, entry: Entry) -> tuple[bool, int, bool]:
    """Return how far a copy is from what an entry needs: older versions first, the next one of them, whole ones."""
    return other.version > entry.version, abs(other.version - entry.version), bool(other.paths)


def check(filled: Filled, facts: VersionFacts) -> None:
    """Raise Corrupt unless what was written is what the commit promises."""
    if (filled.tree_root, filled.files, filled.bytes) != (facts.tree_root, facts.files, facts.bytes):
        raise Corrupt(f"the tree that was fetched is not that of commit {facts.commit}", tree_root=filled.tree_root)


async def finish(entry: Entry, lease: Lease, folder: SiteFolder) -> None:
    """Mark the staged tree as whole, and rename it to its final path, durably."""
    await fp("fill.C7.before")
    await folder.seal(entry.key, lease.token, _marker(entry, lease))
    await fp("fill.C7.after")
    await fp("fill.C8.before")
    await folder.publish(entry.key, lease.token)
    await fp("fill.C8.after")
    await fp("fill.C9.before")
    await folder.sync_parent(entry.key)
    await fp("fill.C9.after")


def _marker(entry: Entry, lease: Lease) -> Marker:
    return Marker(
        site=entry.site,
        project=entry.project,
        commit=entry.commit,
        dataset=entry.dataset,
        version=entry.version,
        tree_root=entry.tree_root,
        files=entry.files,
        bytes=entry.bytes,
        token=lease.token,
        mode=entry.mode,
        paths=entry.paths,
    )


async def _land(entry: Entry, lease: Lease, fetched: int, world: World) -> Entry:
    async def work(uow: Unit) -> Entry:
        await uow.guard(lease)
        return await uow.entries.move(entry, Move.LAND, reason="verifying", fetched_bytes=fetched, progress=1.0)

    return await world.transact(work)


async def _confirm(entry: Entry, filled: Filled, lease: Lease, path: Path, *, seconds: float, world: World) -> None:
    measured = bool(filled.fetched_bytes) and not filled.resumed_bytes and not entry.adopt_from

    async def work(uow: Unit) -> Entry:
        await uow.guard(lease)
        ready = await uow.entries.move(
            entry,
            Move.CONFIRM,
            reason="",
            attempts=0,
            retry_at=None,
            fetched_bytes=filled.fetched_bytes,
            readable=False,
            heat=max(1.0, entry.heat),
            fill_seconds=seconds if measured else entry.fill_seconds,
            idle_seconds=0.0,
            **({} if entry.readable or not filled.fetched_bytes else {"uses": 0}),
            adopt_from="",
            ready_at=world.clock.now(),
        )
        await fp("fill.C11.before")
        announce.ready(ready, str(path), seconds, uow=uow)
        await fp("fill.C11.after")
        return ready

    await fp("fill.C10.before")
    ready = await world.transact(work)
    await fp("fill.C10.after")
    metrics.SECONDS.labels(entry.site).observe(seconds)
    if filled.fetched_bytes >= SAMPLE_BYTES and seconds > 0 and measured:
        with contextlib.suppress(MillraceError):  # the fill is over, and stays so
            await world.sites.sample(entry.site, "lake", filled.fetched_bytes / seconds)
    await world.telemetry.progress(ready)
    log.info("cached", entry=entry.id, files=entry.files, bytes=entry.bytes, fetched=filled.fetched_bytes)
