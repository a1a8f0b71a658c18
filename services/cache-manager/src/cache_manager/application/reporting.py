"""How far a fill is, told twice a second to the entry's document and to whoever listens.

The same update brings back what has changed meanwhile: whether the version is still wanted, and what readers who began
early need next. So it reaches the one process that fills, whichever was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from cache_manager.application.lake_ports import Filled
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.errors import WithdrawnError
from millrace.datasets.turns import Turns, in_turn
from millrace.errors import Fenced
from millrace.failpoints import fp_sync
from millrace.tasks import cancel_and_wait


class Progress:
    """Called by a fill, from any thread, with bytes written and bytes fetched so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.written = 0
        self.fetched = 0
        self.turns = Turns()

    def __call__(self, written: int, fetched: int) -> None:
        """Take the numbers."""
        self.written, self.fetched = written, fetched
        if fetched:
            fp_sync("fill.C3.during")

    @property
    def share(self) -> float:
        """Return the part that is written, 0 to 1."""
        return min(1.0, self.written / self.total) if self.total else 0.0


async def reported(entry: Entry, progress: Progress, work: Awaitable[Filled], world: World) -> Filled:
    """Await `work`, reporting meanwhile.

    Raises:
        WithdrawnError: the version is no longer wanted; `work` was cancelled.
        Fenced: somebody else works on the entry now; `work` was cancelled.
    """
    working = asyncio.ensure_future(work)
    telling = asyncio.ensure_future(_tell(entry, progress, world))
    try:
        await asyncio.wait({working, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait((working, telling))
    if working.cancelled():
        telling.result()
    return working.result()


async def _tell(entry: Entry, progress: Progress, world: World) -> None:
    pause = world.limits.early_report if entry.leases else world.limits.report
    while True:
        await world.clock.sleep(pause)
        known = await world.entries.report(entry, fetched_bytes=progress.fetched, progress=progress.share)
        if known is None:
            raise Fenced(f"cache entry {entry.id} went on without this worker")
        if known.desired == "absent" and not known.leases:
            raise WithdrawnError(f"{entry.id} is no longer wanted")
        progress.turns.want({run: in_turn(grant.wanted.values()) for run, grant in known.leases.items()})
        pause = world.limits.early_report if known.leases else world.limits.report
        await world.telemetry.progress(replace(entry, fetched_bytes=progress.fetched, progress=progress.share))
