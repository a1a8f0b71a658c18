"""One entry at a time: take its lease, do what it needs next until it rests, give the lease back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from cache_manager.application.failing import record_failure
from cache_manager.application.filling import fill
from cache_manager.application.leaving import delete, evict, trash, withdraw
from cache_manager.application.repairing import repair
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.plan import Step, next_step
from cache_manager.domain.states import Move
from cache_manager.errors import WithdrawnError
from millrace.errors import Fenced, MillraceError, Unavailable
from millrace.failpoints import fp
from millrace.leases.holding import while_held
from millrace.leases.ports import Lease
from millrace.telemetry import span

log = structlog.get_logger(__name__)

MAX_STEPS = 16
"""A bound on the steps under one lease, so that an entry which is asked for and cleared in turn lets others in."""

Work = Callable[[Entry, Lease, World], Awaitable[None]]


async def queue(entry: Entry, _lease: Lease, world: World) -> None:
    """Begin anew with an entry that is wanted and not there."""
    await world.entries.move(entry, Move.REQUEST, reason="waiting for a worker", attempts=0, retry_at=None)


_WORK: dict[Step, Work] = {
    Step.QUEUE: queue,
    Step.FILL: fill,
    Step.REPAIR: repair,
    Step.WITHDRAW: withdraw,
    Step.EVICT: evict,
    Step.TRASH: trash,
    Step.DELETE: delete,
}


def due(entry: Entry, world: World) -> Step | None:
    """Return what an entry needs now."""
    unchanged = world.rests.silence(entry.id, entry.revision, world.clock.monotonic())
    return next_step(entry, unchanged, world.limits.patience)


async def attend(entry: Entry, world: World) -> None:
    """Work on an entry unless somebody else does; whoever has its lease is the only one."""
    with span("cache.attend", parent=entry.cause.traceparent):
        await fp("fill.C1.before")
        lease = await world.leases.acquire(f"entry/{entry.id}", world.holder)
        if lease is None:
            return
        try:
            await while_held(lease, _steps(entry.id, lease, world), leases=world.leases, clock=world.clock)
        except Fenced as error:
            log.warning("somebody else works on the entry now", entry=entry.id, reason=error.message)
        finally:
            await _release(lease, world)


async def _steps(entry_id: str, lease: Lease, world: World) -> None:
    for _ in range(MAX_STEPS):
        entry = await world.entries.claim(entry_id, lease.token)
        await fp("fill.C1.after")
        step = None if entry is None else due(entry, world)
        if entry is None or step is None:
            return
        try:
            await _WORK[step](entry, lease, world)
        except WithdrawnError:
            log.info("no longer wanted", entry=entry_id)
        except Fenced:
            raise
        except (MillraceError, OSError) as error:
            await record_failure(entry_id, _ours(error), lease, world)
            return


def _ours(error: MillraceError | OSError) -> MillraceError:
    if isinstance(error, MillraceError):
        return error
    return Unavailable(f"the site's file system answers {error.strerror or type(error).__name__}")


async def _release(lease: Lease, world: World) -> None:
    try:
        await world.leases.release(lease)
    except MillraceError as error:
        log.warning("lease not released; it ends by itself", lease=lease.name, reason=error.message)
