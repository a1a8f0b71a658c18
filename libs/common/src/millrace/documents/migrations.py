"""Numbered changes of a database's shape: expand first, contract in a later release, each run once under a lease.

A migration may be interrupted and is then run again, so that it must be repeatable.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from millrace.clock import Clock, SystemClock, new_id
from millrace.documents import ledger
from millrace.documents.failures import translated
from millrace.documents.indexes import Database, ensure_kernel_indexes
from millrace.errors import Invalid, Unavailable
from millrace.leases import Lease, LeaseStore, ProcessIdentity
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

LEASE = "migrations"
WAIT_SECONDS = 120.0
BEAT_TTL_SECONDS = 20.0


@dataclass(frozen=True)
class Migration:
    """One change. `number` begins at 1 and rises without gaps; `name` never changes once released."""

    number: int
    name: str
    apply: Callable[[Database], Awaitable[None]]


async def migrate(
    database: Database,
    migrations: Sequence[Migration],
    *,
    clock: Clock | None = None,
    wait: float = WAIT_SECONDS,
) -> list[int]:
    """Create the kernel's indexes, run what was not run yet, and return the numbers that were.

    Raises:
        Invalid: gaps or doubles in the numbers, or a database that is ahead of this program's names.
        Unavailable: another process migrates for longer than `wait` seconds, or MongoDB is away.
    """
    _check(migrations)
    time: Clock = clock or SystemClock()
    leases = LeaseStore(database, clock=time, ttl=BEAT_TTL_SECONDS, identity=ProcessIdentity())
    lease = await _acquire(leases, time, wait)
    beating = asyncio.ensure_future(_beat(leases, lease, time))
    try:
        await ensure_kernel_indexes(database)
        return await _run(database, migrations, leases, lease, time)
    finally:
        await cancel_and_wait([beating])
        await leases.release(lease)


async def _beat(leases: LeaseStore, lease: Lease, clock: Clock) -> None:
    """Keep the lease while a long migration runs; one that lost it stops at its next renewal."""
    while True:
        await clock.sleep(BEAT_TTL_SECONDS / 4)
        try:
            await leases.renew(lease)
        except Unavailable as error:
            log.warning("migration lease not renewed", reason=error.message)


async def _acquire(leases: LeaseStore, clock: Clock, wait: float) -> Lease:
    holder = f"{platform.node()}:{os.getpid()}:{new_id()}"
    deadline = clock.monotonic() + wait
    while True:
        lease = await leases.acquire(LEASE, holder)
        if lease is not None:
            return lease
        if clock.monotonic() > deadline:
            raise Unavailable("another process has been migrating the database for too long")
        await clock.sleep(0.1)


async def _run(
    database: Database, migrations: Sequence[Migration], leases: LeaseStore, lease: Lease, clock: Clock
) -> list[int]:
    done: list[int] = []
    with translated():
        applied = {row["_id"]: row["name"] async for row in database[ledger.MIGRATIONS].find()}
        for migration in migrations:
            known = applied.get(migration.number)
            if known is not None and known != migration.name:
                raise Invalid(f"migration {migration.number} is {known!r} in the database, {migration.name!r} here")
            if known is None:
                await leases.renew(lease)
                await migration.apply(database)
                await leases.renew(lease)
                row = {"_id": migration.number, "name": migration.name, "at": clock.now()}
                await database[ledger.MIGRATIONS].replace_one({"_id": migration.number}, row, upsert=True)
                log.info("migrated", number=migration.number, name=migration.name)
                done.append(migration.number)
    return done


def _check(migrations: Sequence[Migration]) -> None:
    numbers = [migration.number for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise Invalid(f"migrations are numbered 1, 2, 3 …, not {numbers}")
