"""One after the other per key, first come first served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets holders of the same key take turns in the order of their coming; other keys do not wait."""

    def __init__(self) -> None:
        self._queues: dict[str, list[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for the turn of this holder."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = []
        else:
            await self._wait(queue)
        try:
            yield
        finally:
            self._pass_on(key)

    async def _wait(self, queue: list[asyncio.Future[None]]) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine in queue:
                queue.remove(mine)
            raise

    def _pass_on(self, key: str) -> None:
        queue = self._queues[key]
        while queue:
            following = queue.pop(0)
            if not following.done():
                following.set_result(None)
                return
        del self._queues[key]
