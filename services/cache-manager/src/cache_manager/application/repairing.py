"""A copy that was found damaged is built anew beside the old one from its good files, and then takes its place."""

from __future__ import annotations

import structlog

from cache_manager.application import announce
from cache_manager.application.filling import build, check, finish
from cache_manager.application.ports import Unit
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)


async def repair(entry: Entry, lease: Lease, world: World) -> None:
    """Replace the tree of an entry by a verified one, and announce how many files were wrong.

    Readers that have files of the old tree open keep them until its grace in the trash is over.
    """
    folder = await world.folder(entry.site)
    facts = await world.lake.facts(entry.project, entry.commit)
    damaged = await world.lake.damaged(entry.project, facts, folder.path(entry.key))
    fetched = entry.fetched_bytes
    if damaged or await folder.marker(entry.key) is None:
        await folder.begin(entry.key)
        await folder.link(entry.key, lease.token)
        filled = await build(entry, facts, lease, folder, world, anew=False)
        check(filled, facts)
        await folder.trash(entry.key)
        await finish(entry, lease, folder)
        fetched += filled.fetched_bytes

    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        ready = await uow.entries.move(entry, Move.CONFIRM, reason="", attempts=0, fetched_bytes=fetched, progress=1.0)
        announce.repaired(ready, len(damaged), uow=uow)

    await world.transact(work)
    log.warning("a damaged copy was repaired", entry=entry.id, files=len(damaged))
