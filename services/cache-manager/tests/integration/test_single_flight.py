"""Cached once and only once, shared by all: proved by counting what is read from the lake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cache_manager.domain.charge import Charge
from millrace.errors import Conflict, Unavailable

pytestmark = pytest.mark.servers


async def test_many_requests_to_several_managers_fetch_each_pack_once(lab: Any) -> None:
    managers = [await lab.manager() for _ in range(4)]
    version = await lab.version(files=200, size=20_000)
    lab.store.reads.clear()

    async def ask(index: int) -> None:
        for _ in range(50):
            try:
                await lab.ask(managers[index % 4], version)
            except (Unavailable, Conflict):
                await asyncio.sleep(0.01)
            else:
                return

    await asyncio.gather(*(ask(index) for index in range(100)))
    await lab.until_state(managers[0], lab.key(version), "READY")
    for manager in managers:
        await lab.step(manager)

    assert set(lab.store.pack_reads().values()) == {1}
    assert [event.data.fetched_bytes > 0 for event in await lab.events()].count(True) == 1
    assert await lab.violations(managers[0]) == []


async def test_managers_that_work_at_the_same_time_do_not_fill_twice(lab: Any) -> None:
    managers = [await lab.manager() for _ in range(3)]
    versions = [await lab.version(number, files=30) for number in (1, 2, 3)]
    lab.store.reads.clear()
    for version in versions:
        await lab.ask(managers[0], version)

    async def work(manager: Any) -> None:
        for _ in range(20):
            await lab.step(manager)

    await asyncio.gather(*(work(manager) for manager in managers))
    for version in versions:
        await lab.until_state(managers[0], lab.key(version), "READY")

    assert set(lab.store.pack_reads().values()) == {1}
    assert (await lab.event_types()).count("cache.ready") == 3


async def test_a_manager_that_was_paused_is_fenced(lab: Any) -> None:
    """The first one stops in mid-fill without dying; the second takes over; then the first one wakes."""
    first, second = await lab.manager(takeover_seconds=0.6), await lab.manager(takeover_seconds=0.6)
    version = await lab.version()
    wake, reached = asyncio.Event(), asyncio.Event()

    async def pause(key: str) -> None:
        if "/packs/" in key and not reached.is_set():
            reached.set()
            await wake.wait()

    async def frozen(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    lab.store.before = pause
    first.world.leases.renew = frozen
    await lab.ask(first, version)
    await first.attendance.step()
    await reached.wait()

    entry = await lab.until_state(second, lab.key(version), "READY")
    wake.set()
    await first.attendance.idle()

    assert entry.token == 2
    assert await lab.event_types() == ["cache.ready"]
    assert await lab.violations(second) == []
    assert await lab.charged(second) == entry.charge


async def test_a_clear_during_a_fill_withdraws_it(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    reached = asyncio.Event()

    async def hang(key: str) -> None:
        if "/packs/" in key:
            reached.set()
            await asyncio.Event().wait()

    lab.store.before = hang
    await lab.ask(manager, version)
    await manager.attendance.step()
    await reached.wait()
    await lab.ask(manager, version, desired="absent")

    await lab.until_state(manager, lab.key(version), "ABSENT")

    assert await lab.charged(manager) == Charge()
    assert await lab.event_types() == []
    assert await lab.violations(manager) == []
