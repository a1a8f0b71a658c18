"""Running coroutines, so many at once and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self


class Bounded:
    """Runs what it is given in the background; leaving the block waits, and the first failure cancels the rest."""

    def __init__(self, at_once: int) -> None:
        self._room = asyncio.Semaphore(max(1, at_once))
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` as soon as there is room."""
        await self._room.acquire()
        self._group.create_task(_awaited(work)).add_done_callback(lambda _: self._room.release())


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
