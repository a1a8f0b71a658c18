"""Bringing what a run says to the catalog: buffered on disk, in order, in batches, never in the run's way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import structlog

from millrace.clock import Clock
from millrace.errors import Fenced, Invalid, MillraceError
from millrace.failpoints import fp
from trainer.application.ports import Catalog, Report

log = structlog.get_logger(__name__)

BATCH = 500
BATCH_CHARS = 200_000
"""Text in one batch; the catalog takes bodies of up to 1 MiB."""
GATHER_SECONDS = 0.1
MAX_DELAY = 5.0


class Spool(Protocol):
    """Reports of one run under one fence, in a file that survives this process."""

    def append(self, report: Report) -> None:
        """Keep a report; it is shipped later."""

    def waiting(self, limit: int) -> list[Report]:
        """Return the oldest reports that are not shipped."""

    def shipped(self, count: int) -> None:
        """Forget the oldest `count`."""


class Shipping:
    """Ships one spool. `run()` until cancelled; `flush()` at the end."""

    def __init__(self, spool: Spool, catalog: Catalog, clock: Clock, *, project: str, run: str, fence: int) -> None:
        self.fenced = asyncio.Event()
        self._spool = spool
        self._catalog = catalog
        self._clock = clock
        self._key = (project, run, fence)
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()

    def add(self, report: Report) -> None:
        """Take a report; returns at once."""
        self._spool.append(report)
        self._wanted.set()

    async def run(self) -> None:
        """Ship for ever; what the catalog refuses because of the fence sets `fenced`."""
        delay = GATHER_SECONDS
        while True:
            await self._wanted.wait()
            await self._clock.sleep(delay)
            self._wanted.clear()
            try:
                await self.ship()
            except Fenced:
                self.fenced.set()
                return
            except MillraceError as error:
                log.warning("reports wait for the catalog", run=self._key[1], reason=error.message)
                delay = min(delay * 2, MAX_DELAY)
                self._wanted.set()
            else:
                delay = GATHER_SECONDS

    async def flush(self, seconds: float) -> bool:
        """Ship what is left within `seconds`; return whether all is shipped."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        await self.ship()
                    except MillraceError as error:
                        if not error.transient:
                            return False
                        await self._clock.sleep(0.2)
                    else:
                        return True
        except TimeoutError:
            return False

    async def ship(self) -> None:
        """Ship everything that waits.

        Raises:
            Fenced: a newer grant is in force. Unavailable: later.
        """
        async with self._turn:
            while batch := self._spool.waiting(BATCH):
                _, alike = next(groupby(batch, key=_kind))
                await self._send(_cut(list(alike)))

    async def _send(self, reports: Sequence[Report]) -> None:
        measured = reports[0].kind == "metric"
        if measured:
            await fp("train.T7.before")
        await self._deliver(reports)
        if measured:
            await fp("train.T7.during")
        self._spool.shipped(len(reports))
        if measured:
            await fp("train.T7.after")

    async def _deliver(self, reports: Sequence[Report]) -> None:
        """Send reports; those that the catalog refuses for good are dropped, one by one, so that the others go on."""
        try:
            await self._catalog.report(*self._key, reports)
        except Invalid as error:
            if len(reports) == 1:
                log.warning("report refused and dropped", kind=reports[0].kind, reason=error.message)
                return
            middle = len(reports) // 2
            await self._deliver(reports[:middle])
            await self._deliver(reports[middle:])


def _cut(reports: list[Report]) -> list[Report]:
    """Return as many of the first reports as fit into one body, at least one."""
    total = 0
    for place, report in enumerate(reports):
        total += len(report.text) + 100 + 50 * len(report.values)
        if place and total > BATCH_CHARS:
            return reports[:place]
    return reports


def _kind(report: Report) -> str:
    return report.kind
