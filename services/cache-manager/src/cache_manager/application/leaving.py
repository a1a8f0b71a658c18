"""Letting go: marked, renamed into the trash, announced, and deleted once no reader can have it open any more."""

from __future__ import annotations

import structlog

from cache_manager.application import announce, metrics
from cache_manager.application.ports import Unit
from cache_manager.application.space import give_back
from cache_manager.application.world import World
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move
from millrace.failpoints import fp
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)


async def evict(entry: Entry, _lease: Lease, world: World) -> None:
    """Mark an entry that nobody uses; a lease that is granted meanwhile wins."""
    await fp("evict.E1.before")
    marked = await world.entries.evict(entry, reason=entry.evict_reason, only_if_wished="absent")
    await fp("evict.E1.after")
    if marked is None:
        log.info("not evicted: it is in use or wanted again", entry=entry.id)


async def trash(entry: Entry, lease: Lease, world: World) -> None:
    """Take the tree from its final path and say so: nobody can open it any more."""
    folder = await world.folder(entry.site)
    await fp("evict.E2.before")
    assert not entry.held, "no lease and no pin comes upon what is being evicted"  # noqa: S101 - stays on in production
    await fp("evict.E2.after")
    await fp("evict.E3.before")
    await folder.trash(entry.key)
    await fp("evict.E3.after")

    async def work(uow: Unit) -> Entry:
        await uow.guard(lease)
        trashed = await uow.entries.move(entry, Move.TRASH, reason="kept until no reader can have it open")
        announce.evicted(trashed, uow=uow)
        return trashed

    await world.transact(work)
    metrics.EVICTIONS.labels(entry.site, entry.evict_reason).inc()
    log.info("evicted", entry=entry.id, reason=entry.evict_reason, bytes=entry.bytes)


async def delete(entry: Entry, lease: Lease, world: World) -> None:
    """Delete what the trash holds and give its room back."""
    folder = await world.folder(entry.site)
    await fp("evict.E4.before")
    await folder.empty(entry.key)
    await folder.forget_aside(entry.key)
    await fp("evict.E4.after")
    await _end(entry, Move.DELETE, lease, world)


async def withdraw(entry: Entry, lease: Lease, world: World) -> None:
    """Drop what never became ready; a run that begins to read it at the last moment wins."""
    shut = await world.entries.shut(entry)
    if shut is None:
        return
    entry = shut
    if entry.charge:
        folder = await world.folder(entry.site)
        await folder.discard(entry.key)
        await folder.trash(entry.key)
        await folder.empty(entry.key)
    await _end(entry, Move.WITHDRAW, lease, world)


async def _end(entry: Entry, move: Move, lease: Lease, world: World) -> None:
    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        await give_back(entry, uow)
        await uow.entries.move(entry, move, charge=Charge(), reason="", attempts=0, retry_at=None, progress=0.0)

    await world.transact(work)
    world.kick()
