"""Desired against observed: every entry that does not rest is attended to, a few at a time."""

from __future__ import annotations

import asyncio

import structlog

from cache_manager.application.leases import expire_leases
from cache_manager.application.worker import attend, due
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.plan import Step
from millrace.errors import MillraceError
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

TRANSFERS = frozenset({Step.QUEUE, Step.FILL, Step.REPAIR})
CHORES = 8
"""Evictions and the like at once; they never wait behind long fills."""


class Attendance:
    """Attends to restless entries in the background; `step()` never waits for a fill."""

    def __init__(self, world: World, *, fills: int) -> None:
        self._world = world
        self._transfers = asyncio.Semaphore(fills)
        self._chores = asyncio.Semaphore(CHORES)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def step(self) -> None:
        """Start work on every entry that needs some and has none in this process."""
        await expire_leases(self._world)
        restless = await self._world.entries.restless()
        self._world.rests.keep({entry.id for entry in restless})
        for entry in restless:
            step = due(entry, self._world) if entry.id not in self._tasks else None
            if step is not None:
                self._start(entry, self._transfers if step in TRANSFERS else self._chores)

    def _start(self, entry: Entry, room: asyncio.Semaphore) -> None:
        task = asyncio.create_task(self._attend(entry, room), name=f"attend {entry.id}")
        self._tasks[entry.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(entry.id, None))

    async def _attend(self, entry: Entry, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                await attend(entry, self._world)
            except MillraceError as error:
                log.warning("cache entry waits", entry=entry.id, reason=error.message)
            except Exception:
                log.exception("work on a cache entry broke", entry=entry.id)

    async def idle(self) -> None:
        """Wait until nothing is worked on (tests)."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Stop all work; leases that are held end with it."""
        await cancel_and_wait(list(self._tasks.values()))
