"""Runs a coroutine while, and only while, a lease is held."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from millrace.clock import Clock, SystemClock
from millrace.errors import Fenced, MillraceError
from millrace.leases.ports import Lease, Leases
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

Work = Callable[[Lease], Awaitable[None]]


class Leadership:
    """Competes for `name` and runs `work(lease)` as the leader, for ever.

    The lease is renewed every quarter of its ttl. When a renewal is refused, or none succeeded in time, `work` is
    cancelled at the latest 7/8 of the ttl after the last beat was asked for, on the own clock: it has stopped before
    anybody else may begin. A process that was paused past its ttl cannot know, so that writers pass `lease.token`
    and are refused by `Fenced`.
    """

    def __init__(self, leases: Leases, name: str, holder: str, *, clock: Clock | None = None) -> None:
        self.lease: Lease | None = None
        self.name = name
        self._leases = leases
        self._holder = holder
        self._clock: Clock = clock or SystemClock()

    async def run(self, work: Work) -> None:
        """Compete and lead for ever. A failure of `work` gives the lease up and is raised."""
        while True:
            lease = await self._acquire()
            log.info("leadership gained", lease=self.name, token=lease.token)
            self.lease = lease
            try:
                await self._lead(lease, work)
            finally:
                self.lease = None
                log.info("leadership ended", lease=self.name, token=lease.token)
                await self._release(lease)

    async def _acquire(self) -> Lease:
        while True:
            try:
                lease = await self._leases.acquire(self.name, self._holder)
            except MillraceError as error:
                if not error.transient:
                    raise
                lease = None
            if lease is not None:
                return lease
            await self._clock.sleep(min(self._leases.ttl / 8, 1.0))

    async def _lead(self, lease: Lease, work: Work) -> None:
        working = asyncio.ensure_future(work(lease))
        beating = asyncio.ensure_future(self._beat(lease))
        try:
            await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait((working, beating))
        if not working.cancelled():
            working.result()
        if not beating.cancelled():
            beating.result()

    async def _beat(self, lease: Lease) -> None:
        """Renew until the lease is lost, then return."""
        renewed = self._clock.monotonic()
        while self._clock.monotonic() - renewed < self._leases.ttl / 2:
            await self._clock.sleep(self._leases.ttl / 4)
            asked = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._leases.ttl / 8):
                    await self._leases.renew(lease)
            except Fenced as error:
                log.warning("lease lost", lease=lease.name, token=lease.token, reason=error.message)
                return
            except (MillraceError, TimeoutError) as error:
                log.warning("lease not renewed", lease=lease.name, reason=str(error))
            else:
                renewed = asked

    async def _release(self, lease: Lease) -> None:
        with contextlib.suppress(MillraceError, TimeoutError):
            async with asyncio.timeout(2.0):
                await self._leases.release(lease)
