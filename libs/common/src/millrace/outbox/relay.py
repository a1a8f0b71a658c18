"""Publishes outbox rows: at least once under any crash, once in normal operation, in order within an aggregate.

One relay per database works at a time, under a lease. It reads the oldest rows, publishes one chain per aggregate
(the next row of an aggregate only after the broker stored the one before), many chains at once, and marks what the
broker confirmed. A crash in between publishes again under the same message id, which the broker stores once within
its window, and consumers' inboxes ignore after it.

When a stream was created anew (its store was wiped), the rows that went into its earlier life are sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from dataclasses import dataclass
from datetime import timedelta

import structlog
from prometheus_client import Counter, Gauge

from millrace.clock import Clock, new_id
from millrace.documents.client import Client
from millrace.documents.indexes import STREAM_MAX_AGE, Database
from millrace.errors import MillraceError
from millrace.failpoints import fp
from millrace.leases import Leadership, Lease, LeaseStore, ProcessIdentity
from millrace.outbox.rows import OutboxRows, Row, chains
from millrace.publishing import Published, Publisher

log = structlog.get_logger(__name__)

LEASE = "outbox-relay"
LEASE_SECONDS = 5.0
POLL_SECONDS = 1.0
BATCH = 512
WINDOW = 128
"""Publishes in flight at once: with `sync_interval: always` they share the broker's fsyncs."""

BLOCK_SECONDS = (0.2, 30.0)
"""Shortest and longest pause of an aggregate whose row the broker refuses."""

SENT = Counter("millrace_outbox_published", "Events that the broker confirmed", ["stream"])
FAILED = Counter("millrace_outbox_failures", "Publishes that failed", ["error"])
RESENT = Counter("millrace_outbox_reopened", "Events that are sent again because a stream was created anew", ["stream"])
PENDING = Gauge("millrace_outbox_pending", "Events that wait for the broker")


@dataclass
class _Block:
    until: float
    delay: float
    reason: str


class Relay:
    """Publishes the outbox of one database. `run()` for ever; `kick()` after a commit; `check()` for readiness."""

    def __init__(
        self,
        client: Client,
        database: Database | str,
        publisher: Publisher,
        clock: Clock,
        *,
        streams: tuple[str, ...] = ("EVENTS",),
        max_age: timedelta = STREAM_MAX_AGE,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._database: Database = client[database] if isinstance(database, str) else database
        self._rows = OutboxRows(self._database)
        self._publisher = publisher
        self._clock = clock
        self._streams = streams
        self._max_age = max_age
        self._poll = poll
        self._wanted = asyncio.Event()
        self._epochs: dict[str, str] = {}
        self._epochs_at = float("-inf")
        self._blocked: dict[str, _Block] = {}
        self._reason: str | None = None
        leases = LeaseStore(self._database, clock=clock, ttl=LEASE_SECONDS, identity=ProcessIdentity())
        holder = f"{platform.node()}:{os.getpid()}:{new_id()}"
        self._leadership = Leadership(leases, LEASE, holder, clock=clock)

    def kick(self) -> None:
        """Ask for a look at the outbox soon; cheap, callable from any coroutine of the loop."""
        self._wanted.set()

    async def check(self) -> str | None:
        """Return why events wait, or None; for `/readyz` and for people."""
        if self._reason is not None:
            return self._reason
        if self._blocked:
            aggregate, block = next(iter(self._blocked.items()))
            return f"{len(self._blocked)} aggregates wait; {aggregate}: {block.reason}"
        return None

    async def run(self) -> None:
        """Relay for ever, while leading."""
        await self._leadership.run(self._work)

    async def _work(self, _lease: Lease) -> None:
        while True:
            self._wanted.clear()
            again = False
            try:
                again = await self.step()
                self._reason = None
            except MillraceError as error:
                self._reason = error.message
                FAILED.labels(error.code).inc()
                log.warning("outbox waits", reason=error.message)
            if not again:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._wanted.wait()

    async def step(self) -> bool:
        """Publish one batch of what waits; return whether there may be more right now."""
        await self._watch_epochs()
        now = self._clock.monotonic()
        resting = {name for name, block in self._blocked.items() if block.until > now}
        await fp("commit.D7.before")
        rows = await self._rows.pending(BATCH, without=resting)
        await fp("commit.D7.after")
        PENDING.set(len(rows) if len(rows) < BATCH else await self._rows.count())
        if not rows:
            return False
        window = asyncio.Semaphore(WINDOW)
        sent: list[tuple[str, Published]] = []
        async with asyncio.TaskGroup() as group:
            for chain in chains(rows):
                group.create_task(self._send_chain(chain, window, sent))
        await self._mark(sent)
        return bool(sent) and len(rows) == BATCH

    async def _send_chain(self, chain: list[Row], window: asyncio.Semaphore, sent: list[tuple[str, Published]]) -> None:
        async with window:
            for row in chain:
                try:
                    sent.append((row.id, await self._send(row)))
                except MillraceError as error:
                    self._block(row, error)
                    return
            self._blocked.pop(chain[0].aggregate, None)

    async def _send(self, row: Row) -> Published:
        await fp("commit.D8.before")
        published = await self._publisher.publish(row.subject, row.raw, message_id=row.id, headers=row.headers)
        await fp("commit.D8.after")
        await fp("commit.D9.before")
        if published.stream not in self._epochs:
            self._epochs_at = float("-inf")
        SENT.labels(published.stream).inc()
        await fp("commit.D9.after")
        return published

    async def _mark(self, sent: list[tuple[str, Published]]) -> None:
        if sent:
            await fp("commit.D10.before")
            await self._rows.mark_sent(sent, epochs=self._epochs, now=self._clock.now())
            await fp("commit.D10.after")

    def _block(self, row: Row, error: MillraceError) -> None:
        FAILED.labels(error.code).inc()
        before = self._blocked.get(row.aggregate)
        shortest, longest = BLOCK_SECONDS
        delay = min(before.delay * 2, longest) if before else shortest
        self._blocked[row.aggregate] = _Block(self._clock.monotonic() + delay, delay, error.message)
        log.warning("event waits", event_id=row.id, subject=row.subject, reason=error.message, retry_in=delay)

    async def _watch_epochs(self) -> None:
        now = self._clock.monotonic()
        if now - self._epochs_at < self._poll:
            return
        for stream in self._streams:
            epoch = await self._publisher.stream_epoch(stream)
            if self._epochs.get(stream) != epoch:
                await self._enter_epoch(stream, epoch)
        self._epochs_at = now

    async def _enter_epoch(self, stream: str, epoch: str) -> None:
        known = await self._rows.known_epoch(stream)
        if known != epoch:
            reopened = await self._rows.reopen(stream, epoch, self._clock.now(), max_age=self._max_age)
            RESENT.labels(stream).inc(reopened)
            if known is not None:
                log.warning("stream is new; its events are sent again", stream=stream, epoch=epoch, events=reopened)
        self._epochs[stream] = epoch
        self._blocked.clear()
