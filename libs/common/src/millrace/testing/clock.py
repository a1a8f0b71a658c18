"""A clock that moves when it is told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Wall and monotonic time that `advance` moves; sleepers wake in the order of their time.

    With `eager` a sleep moves the clock itself: code that waits runs through at once.
    """

    def __init__(self, start: datetime = START, *, eager: bool = False) -> None:
        self._start = start
        self._elapsed = 0.0
        self._eager = eager
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the wall time."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds since this clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved by `seconds`."""
        if self._eager:
            self._elapsed += max(seconds, 0.0)
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move the clock, waking each sleeper at its time and letting it run."""
        target = self._elapsed + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            at, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, at)
            if not future.done():
                future.set_result(None)
            await _settle()
        self._elapsed = target
        await _settle()

    def jump(self, seconds: float) -> None:
        """Move the clock without letting anybody run: a suspended machine."""
        self._elapsed += seconds


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
