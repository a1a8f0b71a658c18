"""A copy that was found damaged gets its good files back, each at once in its place; readers go on meanwhile.

Damaged files are set aside first: a missing file is an error that everybody sees, a wrong byte is not. They are kept in
the site's quarantine as long as the copy is there, and charged; where there is no room for that, they are deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from cache_manager.application import announce, metrics
from cache_manager.application.filling import build, check, finish
from cache_manager.application.lake_ports import VersionFacts
from cache_manager.application.ports import Unit
from cache_manager.application.site_ports import SiteFolder
from cache_manager.application.world import World
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move
from cache_manager.errors import NoRoomError
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)


async def repair(entry: Entry, lease: Lease, world: World) -> None:
    """Make the tree of an entry whole again, and announce how many files were wrong."""
    folder = await world.folder(entry.site)
    facts = await world.lake.facts(entry.project, entry.commit, entry.selection)
    damaged = await world.lake.damaged(entry.project, facts, folder.path(entry.key))
    fetched = 0
    if await folder.marker(entry.key) is None:
        fetched = await _anew(entry, facts, lease, folder, world)
    elif damaged:
        entry = await aside(entry, damaged, folder, world)
        await folder.begin(entry.key)
        fetched = await world.lake.mend(entry.project, facts, damaged, folder.staging(entry.key, lease.token))
        await folder.put_back(entry.key, lease.token)
        metrics.FETCHED.labels(entry.site).inc(fetched)
    total = entry.fetched_bytes + fetched

    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        ready = await uow.entries.move(entry, Move.CONFIRM, reason="", attempts=0, fetched_bytes=total, progress=1.0)
        announce.repaired(ready, len(damaged), uow=uow)

    await world.transact(work)
    metrics.REPAIRED.labels(entry.site).inc(len(damaged))
    log.warning("a damaged copy was repaired", entry=entry.id, files=len(damaged))


async def _anew(entry: Entry, facts: VersionFacts, lease: Lease, folder: SiteFolder, world: World) -> int:
    """Build the tree beside what is left of it, and let it take that place."""
    await folder.begin(entry.key)
    await folder.link(entry.key, lease.token)
    filled = await build(entry, facts, lease, folder, world, anew=False)
    check(filled, facts)
    await folder.trash(entry.key)
    await finish(entry, lease, folder)
    return filled.fetched_bytes


async def aside(entry: Entry, paths: Sequence[str], folder: SiteFolder, world: World) -> Entry:
    """Take damaged files from their paths into the quarantine, charged to the entry, and return the entry.

    Raises:
        Fenced: the entry went on without this worker.
    """
    room = await folder.weigh(entry.key, paths)
    if not room:
        return entry
    charged = await _charge(entry, room, world)
    await folder.set_aside(entry.key, paths, keep=charged is not None)
    return charged or entry


async def _charge(entry: Entry, room: Charge, world: World) -> Entry | None:
    async def work(uow: Unit) -> Entry:
        if not await uow.sites.charge(entry.site, room):
            raise NoRoomError("no room for what is set aside")
        full = await uow.quotas.charge(entry.site, entry.project, room)
        if full is not None:
            raise NoRoomError("no room for what is set aside", quota=full)
        return await uow.entries.note(entry, charge=entry.charge + room)

    try:
        return await world.transact(work)
    except NoRoomError:
        return None
