"""Real databases for the kernel's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.documents import connect
from millrace.documents.client import Client
from millrace.documents.indexes import Database


@pytest.fixture
async def mongo(mongo_server: Any) -> AsyncIterator[Client]:
    """A client as services have it."""
    client = connect(mongo_server.uri, app_name="test")
    yield client
    await client.close()


@pytest.fixture
def database(mongo: Client, mongo_database_name: str) -> Database:
    """A fresh database."""
    return mongo[mongo_database_name]


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Polls a condition (plain or async) until it is true, with a deadline."""
    clock = SystemClock()

    async def wait(condition: Callable[[], object], *, seconds: float = 15.0) -> None:
        deadline = clock.monotonic() + seconds
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            assert clock.monotonic() < deadline, "the condition did not become true in time"
            await asyncio.sleep(0.01)

    return wait
