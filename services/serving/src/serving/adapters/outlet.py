"""The way of captured batches to the bus: memory first, then a bounded file, then dropped and counted."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog
from prometheus_client import Counter, Gauge

from millrace.errors import MillraceError
from serving.adapters.batches import BatchMaker, Encoded
from serving.adapters.spool import Spool
from serving.application.capture import Ring
from serving.application.ports import BatchPublisher

log = structlog.get_logger(__name__)

LOST = Counter("millrace_serving_capture_rows_lost_total", "Captured rows that were dropped")
BACKLOG = Gauge("millrace_serving_capture_backlog_bytes", "Captured bytes that wait for the bus", ["where"])

_WINDOW = 16
_LONGEST_PAUSE = 5.0


class Outlet:
    """Turns the ring into batches and gets them to the bus, without ever holding up whoever fills the ring."""

    def __init__(
        self, ring: Ring, maker: BatchMaker, publisher: BatchPublisher, *, memory_bytes: int, spool: Spool | None
    ) -> None:
        self.rows_lost = 0
        self._ring = ring
        self._maker = maker
        self._publisher = publisher
        self._memory_bytes = memory_bytes
        self._spool = spool
        self._queue: deque[Encoded] = deque()
        self._queued = 0
        self._filled = asyncio.Event()
        self._busy = asyncio.Lock()

    @property
    def backlog(self) -> int:
        """Return the bytes that wait for the bus."""
        return self._queued + (self._spool.size if self._spool else 0)

    async def fill(self) -> None:
        """Turn the ring into batches, for ever."""
        while True:
            await self._ring.wait()
            await self.flush()

    async def flush(self) -> None:
        """Turn what is in the ring now into batches."""
        items = self._ring.take()
        lost = self._ring.dropped + self.rows_lost
        if items:
            async with self._busy:
                batches = await asyncio.to_thread(self._maker.make, items, rows_lost=lost)
                await self._enqueue(batches)

    async def _enqueue(self, batches: list[Encoded]) -> None:
        for batch in batches:
            spooling = self._spool is not None and not self._spool.empty
            if not spooling and self._queued + len(batch.payload) <= self._memory_bytes:
                self._queue.append(batch)
                self._queued += len(batch.payload)
            elif self._spool is None or not await asyncio.to_thread(self._spool.append, batch):
                self.rows_lost += batch.rows
                LOST.inc(batch.rows)
            self._filled.set()
        self._measure()

    async def drain(self) -> None:
        """Publish what waits, oldest first, for ever; while the bus is down try again with growing pauses."""
        pause = 0.1
        while True:
            await self._filled.wait()
            if await self._publish_some():
                pause = 0.1
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _publish_some(self) -> bool:
        if self._queue:
            window = [self._queue[index] for index in range(min(_WINDOW, len(self._queue)))]
            done = await asyncio.gather(*(self._publish(batch) for batch in window))
            kept = [batch for batch, sent in zip(window, done, strict=True) if not sent]
            for _ in window:
                self._queue.popleft()
            self._queue.extendleft(reversed(kept))
            self._queued = sum(len(batch.payload) for batch in self._queue)
            self._measure()
            return not kept
        async with self._busy:
            batch = await asyncio.to_thread(self._spool.peek) if self._spool else None
            if batch is None:
                self._filled.clear()
                return True
            if not await self._publish(batch):
                return False
            if self._spool:
                await asyncio.to_thread(self._spool.advance)
            self._measure()
            return True

    async def _publish(self, batch: Encoded) -> bool:
        """Publish one batch; True if it needs no further try."""
        try:
            await self._publisher.publish(batch.subject, batch.payload, batch.message_id)
        except MillraceError as error:
            if error.transient:
                return False
            log.warning("captured batch refused", subject=batch.subject, reason=error.message)
            self.rows_lost += batch.rows
            LOST.inc(batch.rows)
        return True

    def _measure(self) -> None:
        BACKLOG.labels("memory").set(self._queued)
        BACKLOG.labels("file").set(self._spool.size if self._spool else 0)

    def start(self) -> None:
        """Let `drain` look for what an earlier process left in the file."""
        self._filled.set()

    async def close(self) -> None:
        """Flush the ring, try once to publish what waits, and keep the rest in the file."""
        await self.flush()
        try:
            async with asyncio.timeout(2.0):
                while self._queue and await self._publish_some():
                    pass
        except TimeoutError:
            log.warning("captured batches wait for the next start", batches=len(self._queue))
        for batch in self._queue:
            if self._spool is None or not self._spool.append(batch):
                LOST.inc(batch.rows)
        if self._spool is not None:
            self._spool.close()
