"""Captured requests on their way out of the reply path.

A ring holds what was answered, as bytes, until a flush decodes it elsewhere. Nothing here waits: a full ring drops
the newest and counts it, so that a client never feels the bus.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from serving.domain.routes import Arm, Route

FLUSH_SECONDS = 0.05
FLUSH_ROWS = 500
FLUSH_BYTES = 200_000
_RECENT_IDS = 65_536


@dataclass(frozen=True, slots=True)
class Captured:
    """One answered request. Head lengths are None where the whole payload is JSON."""

    route: Route
    arm: Arm
    prediction: str
    at: datetime
    latency_us: int
    request: bytes
    request_head: int | None
    reply: bytes
    reply_head: int | None

    @property
    def size(self) -> int:
        """Return the bytes held."""
        return len(self.request) + len(self.reply)


class Ring:
    """At most `max_bytes` of captured requests. `due` is set when a flush should not wait for its time."""

    def __init__(self, max_bytes: int) -> None:
        self.dropped = 0
        self.due = asyncio.Event()
        self.arrived = asyncio.Event()
        self._items: deque[Captured] = deque()
        self._bytes = 0
        self._max_bytes = max_bytes

    def offer(self, item: Captured) -> bool:
        """Take one item, or count it as dropped; never waits."""
        if self._bytes + item.size > self._max_bytes:
            self.dropped += 1
            return False
        self._items.append(item)
        self._bytes += item.size
        self.arrived.set()
        if self._bytes >= FLUSH_BYTES or len(self._items) >= FLUSH_ROWS:
            self.due.set()
        return True

    def take(self) -> list[Captured]:
        """Return all items and empty the ring."""
        items = list(self._items)
        self._items.clear()
        self._bytes = 0
        self.arrived.clear()
        self.due.clear()
        return items

    async def wait(self) -> None:
        """Return `FLUSH_SECONDS` after the first item came, or as soon as there is enough for a batch."""
        await self.arrived.wait()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.due.wait()
        except TimeoutError:
            pass


class RecentIds:
    """The prediction ids that this worker gave lately, so that a client's id is used only once."""

    def __init__(self, capacity: int = _RECENT_IDS) -> None:
        self._known: dict[tuple[str, str, str], None] = {}
        self._capacity = capacity

    def claim(self, project: str, deployment: str, prediction: str) -> bool:
        """Return whether the id was free; it is taken now."""
        key = (project, deployment, prediction)
        if key in self._known:
            return False
        self._known[key] = None
        if len(self._known) > self._capacity:
            del self._known[next(iter(self._known))]
        return True


def row_ids(prediction: str, rows: int) -> Iterator[str]:
    """Yield the ids of a request's rows: the prediction id itself for one row, `<id>/<row>` for more."""
    if rows == 1:
        yield prediction
    else:
        yield from (f"{prediction}/{row}" for row in range(rows))
