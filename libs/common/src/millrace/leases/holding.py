"""Working under a lease: it is renewed while the work runs, and the work stops when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from millrace.clock import Clock
from millrace.errors import Fenced, MillraceError
from millrace.leases.ports import Lease, Leases
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)


async def while_held(lease: Lease, work: Awaitable[None], *, leases: Leases, clock: Clock) -> None:
    """Await `work`, renewing `lease` every quarter of its ttl.

    `work` is cancelled when the lease is lost, or could not be renewed for half its ttl: before anybody else may begin.

    Raises:
        Fenced: the lease was lost.
    """
    working = asyncio.ensure_future(work)
    beating = asyncio.ensure_future(_beat(lease, leases, clock))
    try:
        await asyncio.wait({working, beating}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait((working, beating))
    if working.cancelled():
        raise Fenced(f"lease {lease.name} was lost while working", lease=lease.name)
    working.result()


async def _beat(lease: Lease, leases: Leases, clock: Clock) -> None:
    renewed = clock.monotonic()
    while clock.monotonic() - renewed < leases.ttl / 2:
        await clock.sleep(leases.ttl / 4)
        asked = clock.monotonic()
        try:
            async with asyncio.timeout(leases.ttl / 8):
                await leases.renew(lease)
        except Fenced:
            return
        except (MillraceError, TimeoutError) as error:
            log.warning("lease not renewed", lease=lease.name, reason=str(error))
        else:
            renewed = asked
