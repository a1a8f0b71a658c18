"""Grants of one entry that come together are one update: the first is sent at once, the others go with the next one.

A journalled update takes about a millisecond whatever it holds, and updates of one document wait for each other: a
hundred single ones would take a hundred turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from cache_manager.domain.entry import Entry, Grant
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

LARGEST = 128
"""Runs of one update: a bound on its size, and on the server's work for it."""

GrantMany = Callable[[str, Sequence[str], bool], Awaitable[tuple[Entry, Mapping[str, Grant]] | None]]
Batch = tuple[str, bool]
"""An entry, and whether its leases may begin before it is ready."""
Granted = tuple[Entry, Grant] | None


class GrantBatches:
    """Collects grants by entry; call `close` at the end."""

    def __init__(self, grant_many: GrantMany) -> None:
        self._grant_many = grant_many
        self._waiting: dict[Batch, list[tuple[str, asyncio.Future[Granted]]]] = {}
        self._senders: dict[Batch, asyncio.Task[None]] = {}

    async def grant(self, entry_id: str, run: str, early: bool = False) -> Granted:
        """Give a run its lease, if the entry is ready, or may be read `early`, and wished present; else None.

        Raises:
            Unavailable, DeadlineExceeded: MongoDB did not answer; the lease may be granted, and then expires.
        """
        future: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        key = (entry_id, early)
        self._waiting.setdefault(key, []).append((run, future))
        if key not in self._senders:
            self._senders[key] = asyncio.create_task(self._send(key), name=f"grants {entry_id}")
        return await future

    async def close(self) -> None:
        """Stop; who still waits is cancelled."""
        await cancel_and_wait(list(self._senders.values()))

    async def _send(self, key: Batch) -> None:
        try:
            while batch := self._next(key):
                await self._one(key, batch)
        finally:
            self._senders.pop(key, None)
            for _, future in self._waiting.pop(key, []):
                future.cancel()

    def _next(self, key: Batch) -> dict[str, asyncio.Future[Granted]]:
        """Return the next batch. A run that asks twice at once waits for its next turn with the second."""
        batch: dict[str, asyncio.Future[Granted]] = {}
        later: list[tuple[str, asyncio.Future[Granted]]] = []
        for run, future in self._waiting.get(key, ()):
            if future.done():  # whoever asked went away
                continue
            if run in batch or len(batch) == LARGEST:
                later.append((run, future))
            else:
                batch[run] = future
        self._waiting[key] = later
        return batch

    async def _one(self, key: Batch, batch: Mapping[str, asyncio.Future[Granted]]) -> None:
        entry_id, early = key
        try:
            granted = await self._grant_many(entry_id, list(batch), early)
        except asyncio.CancelledError:
            for future in batch.values():
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each of those who wait is told
            failure = error
            _settle(batch, lambda _: failure)
        else:
            _settle(batch, lambda run: None if granted is None else (granted[0], granted[1][run]))
            if granted is not None:
                log.info("leases granted", entry=entry_id, runs=list(batch), state=granted[0].state.value)


def _settle(batch: Mapping[str, asyncio.Future[Granted]], answer: Callable[[str], Granted | Exception]) -> None:
    for run, future in batch.items():
        if future.done():
            continue
        result = answer(run)
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
