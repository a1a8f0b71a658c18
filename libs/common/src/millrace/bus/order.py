"""One after the other per key, first come first served."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets holders of the same key take turns in the order of their coming; other keys do not wait."""

    def __init__(self) -> None:
        self._queues: dict[str, list[asyncio.Future[None]]] = {}

    async def enter(self, key: str) -> None:
        """Wait for the turn; `leave` must follow."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = []
        else:
            await self._wait(key, queue)

    def leave(self, key: str) -> None:
        """Let the next one in."""
        queue = self._queues[key]
        while queue:
            following = queue.pop(0)
            if not following.done():
                following.set_result(None)
                return
        del self._queues[key]

    async def _wait(self, key: str, queue: list[asyncio.Future[None]]) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine in queue:
                queue.remove(mine)
            elif mine.done() and not mine.cancelled():
                self.leave(key)
            raise
