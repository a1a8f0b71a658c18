"""Whoever is told to stop, stops: in the moment in which Python 3.11 would lose it, and around MongoDB."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from millrace.cancellation import mend_wait_for, wait_for
from millrace.documents.client import Client


async def test_a_cancellation_in_the_moment_of_success_is_not_lost() -> None:
    mend_wait_for()
    gate = asyncio.Event()
    task = asyncio.create_task(asyncio.wait_for(gate.wait(), timeout=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_waits_as_wait_for_does() -> None:
    async def answer() -> int:
        return 42

    gate = asyncio.Event()
    assert await wait_for(answer(), None) == 42
    assert await wait_for(answer(), 5.0) == 42
    for seconds in (0.01, 0, -1):
        inner = asyncio.create_task(gate.wait())
        with pytest.raises(TimeoutError):
            await wait_for(inner, seconds)
        assert inner.cancelled()
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done.set_result(42)
    assert await wait_for(done, 0) == 42


@pytest.mark.servers
async def test_a_loop_around_the_database_ends_at_the_first_cancellation(mongo: Client, database: Any) -> None:
    await database["things"].insert_one({"_id": 0})

    async def look_for_ever(connected: asyncio.Event) -> None:
        while True:
            await database["things"].find_one({"_id": 0})
            connected.set()

    for _ in range(100):
        connected = asyncio.Event()
        task = asyncio.create_task(look_for_ever(connected))
        await connected.wait()  # the driver leaves a socket open if it is cancelled while it connects
        await asyncio.sleep(random.uniform(0.0, 0.003))
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=10)
        assert not pending
