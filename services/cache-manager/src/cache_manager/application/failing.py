"""When work on an entry fails: tried again with growing pauses, then FAILED with a reason. Never in silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from cache_manager.application import announce, metrics
from cache_manager.application.ports import Unit
from cache_manager.application.space import give_back
from cache_manager.application.world import World
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import FILLING, Move, State
from cache_manager.errors import SiteDraining, SiteUnavailable
from millrace.errors import Exhausted, MillraceError
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)

MAX_REASON = 1_000


async def record_failure(entry_id: str, error: MillraceError, lease: Lease, world: World) -> None:
    """Record why an entry does not get on, and what happens next."""
    entry = await world.entries.get(entry_id)
    if entry is None or entry.token != lease.token:
        return
    metrics.FAILURES.labels(entry.site, error.code).inc()
    log.warning("work on a cache entry failed", entry=entry.id, state=entry.state.value, reason=error.message)
    if isinstance(error, SiteUnavailable | SiteDraining):
        await _say(entry, error.message, world)
    elif entry.state not in FILLING:
        await _again(entry, error, world)
    elif isinstance(error, Exhausted):
        await _give_up(entry, error, lease, world, move=Move.WAIT)
    elif error.transient and entry.attempts + 1 < world.limits.patience.attempts:
        await _again(entry, error, world)
    else:
        await _give_up(entry, error, lease, world, move=Move.FAIL)


async def _say(entry: Entry, reason: str, world: World) -> None:
    if entry.reason != reason:
        await world.entries.note(entry, reason=reason[:MAX_REASON])


async def _again(entry: Entry, error: MillraceError, world: World) -> None:
    attempts = entry.attempts + 1
    pause = world.limits.patience.backoff(attempts)
    reason = f"attempt {attempts} failed: {error.message}"[:MAX_REASON]
    changes = {"attempts": attempts, "reason": f"{reason}; tried again in {pause:g} s"}
    if error.transient or attempts > 1 or entry.state is not State.REPAIRING:
        await world.entries.note(entry, **changes)
        return

    async def work(uow: Unit) -> None:
        noted = await uow.entries.note(entry, **changes)
        retry_at = world.clock.now() + timedelta(seconds=pause)
        announce.failed(replace(noted, retry_at=retry_at), uow=uow)

    await world.transact(work)


async def _give_up(entry: Entry, error: MillraceError, lease: Lease, world: World, *, move: Move) -> None:
    """Delete what was staged, give the room back, and fail (with an event) or wait for space.

    Runs that began early hold nothing any more where the fill has failed: their leases end with it. While it waits for
    room they are kept, and what they read comes back.
    """
    folder = await world.folder(entry.site)
    if entry.readable:
        entry = await world.entries.note(entry, readable=False)
    await folder.discard(entry.key)
    await folder.trash(entry.key)
    await folder.empty(entry.key)
    retry = timedelta(seconds=world.limits.patience.last_retry)
    changes: dict[str, Any] = {
        "charge": Charge(),
        "attempts": entry.attempts + 1,
        "reason": error.message[:MAX_REASON],
        "progress": 0.0,
        "retry_at": world.clock.now() + retry if error.transient else None,
    }

    if move is Move.FAIL:
        changes["leases"] = {}

    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        await give_back(entry, uow)
        failed = await uow.entries.move(entry, move, **changes)
        if move is Move.FAIL:
            announce.failed(failed, uow=uow)

    await world.transact(work)
