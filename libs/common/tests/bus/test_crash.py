"""A relay that is killed at every point of its way, as a process of its own, on real servers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest

from millrace.bus.reconcile import reconcile
from millrace.bus.topology import CONSUMERS, STREAMS
from millrace.clock import SystemClock
from millrace.documents import MongoUnitOfWork, Transactor, ensure_kernel_indexes
from millrace.documents.client import Client
from millrace.documents.indexes import Database
from millrace.events import DataLanded

pytestmark = pytest.mark.servers

Eventually = Callable[..., Awaitable[None]]

RELAY = """
import asyncio, sys
from millrace.bus import Bus
from millrace.clock import SystemClock
from millrace.documents import connect
from millrace.outbox import Relay

async def main(mongo, database, url):
    client = connect(mongo, app_name="relay")
    bus = Bus(service="catalog", servers=url)
    await bus.start()
    await Relay(client, database, bus.publisher, SystemClock()).run()

asyncio.run(main(*sys.argv[1:]))
"""

CONSUMER = """
import asyncio, sys
from millrace.bus import Bus, Subscription
from millrace.clock import SystemClock
from millrace.documents import MongoUnitOfWork, Transactor, connect
from millrace.events import DataLanded

async def effect(event, uow):
    await uow.database["effects"].insert_one({"event": event.id}, session=uow.session)

async def main(mongo, database, url):
    transact = Transactor(connect(mongo, app_name="c"), database, MongoUnitOfWork, clock=SystemClock(), source="/x")
    bus = Bus(service="ingest", servers=url)
    bus.subscribe([Subscription("ingest-on-data-landed", DataLanded, effect)], transact)
    await bus.start()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

RELAY_POINTS = [f"commit.{point}.{moment}" for point in ("D7", "D8", "D9", "D10") for moment in ("before", "after")]
CONSUMER_POINTS = [f"commit.D11.{moment}" for moment in ("before", "after")]


class Restarted:
    """A program that its supervisor starts again whenever it dies."""

    def __init__(self, program: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.deaths: list[int] = []
        self._command = [sys.executable, "-c", program, *arguments]
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        while True:
            self._process = await asyncio.create_subprocess_exec(*self._command, env=self._environment)
            try:
                self.deaths.append(await self._process.wait())
            except asyncio.CancelledError:
                self._process.kill()
                await self._process.wait()
                raise


@dataclass
class World:
    """The real servers, and how a program of its own reaches them."""

    js: Any
    client: Client
    database: Database
    arguments: list[str]
    folder: Path

    def program(self, text: str, point: str) -> Restarted:
        """Return the program, which dies at `point`, at its first pass or, where rows pass singly, at the third."""
        hit = "" if "D7" in point or "D10" in point else "@3"
        environment = {
            **os.environ,
            "MILLRACE_FAILPOINTS": f"{point}=kill{hit}",
            "MILLRACE_FAILPOINTS_STATE": str(self.folder),
        }
        return Restarted(text, self.arguments, environment)

    async def say(self, count: int) -> list[str]:
        """Commit events of one aggregate; return their ids in order."""
        clock = SystemClock()
        transact = Transactor(self.client, self.database.name, MongoUnitOfWork, clock=clock, source="/millrace/test")

        async def work(uow: MongoUnitOfWork) -> list[str]:
            data = DataLanded(dataset="digits", uri="s3://bucket/landing/a")
            return [
                uow.emit(data, project="default", subject="digits", sequence=number + 1).id for number in range(count)
            ]

        return await transact(work)


@pytest.fixture
async def world(
    mongo: Client, database: Database, broker: Any, mongo_server: Any, tmp_path: Path
) -> AsyncIterator[World]:
    await ensure_kernel_indexes(database)
    await database.create_collection("effects")
    connection = await nats.connect(broker.url)
    await reconcile(connection, STREAMS.values(), CONSUMERS.values())
    arguments = [mongo_server.uri, database.name, broker.url]
    yield World(connection.jetstream(), mongo, database, arguments, tmp_path)
    await connection.close()


@pytest.mark.parametrize("point", RELAY_POINTS)
async def test_a_killed_relay_publishes_everything_once(point: str, world: World, eventually: Eventually) -> None:
    """In order, none missing, none stored twice, and its successor need not wait for the lease to run out."""
    ids = await world.say(5)
    relay = world.program(RELAY, point)
    task = asyncio.create_task(relay.run())
    clock = SystemClock()
    try:

        async def all_sent() -> bool:
            return await world.database["outbox"].count_documents({"state": "sent"}) == 5

        await eventually(lambda: relay.deaths, seconds=30)
        died = clock.monotonic()
        await eventually(all_sent, seconds=30)
        assert clock.monotonic() - died < 15
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert relay.deaths == [-signal.SIGKILL]
    stored = [(await world.js.get_msg("EVENTS", number + 1)).headers["Nats-Msg-Id"] for number in range(5)]
    assert stored == ids
    assert (await world.js.stream_info("EVENTS")).state.messages == 5


@pytest.mark.parametrize("point", CONSUMER_POINTS)
async def test_a_killed_consumer_has_each_effect_once(point: str, world: World, eventually: Eventually) -> None:
    """Killed around its acknowledgement, after the effect is committed: the message comes again, the effect not."""
    consumer = await _consumer_with_short_wait(world.js)
    ids = await world.say(5)
    rows = [row async for row in world.database["outbox"].find().sort("created_at")]
    for row in rows:
        await world.js.publish(row["subject"], row["raw"], headers={"Nats-Msg-Id": row["_id"]})
    program = world.program(CONSUMER, point)
    task = asyncio.create_task(program.run())
    try:

        async def all_settled() -> bool:
            info = await world.js.consumer_info("EVENTS", consumer)
            return bool(info.num_pending == 0 and info.num_ack_pending == 0)

        await eventually(lambda: program.deaths, seconds=30)
        await eventually(all_settled, seconds=30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert program.deaths == [-signal.SIGKILL]
    effects = [row["event"] async for row in world.database["effects"].find()]
    assert sorted(effects) == sorted(ids)


async def _consumer_with_short_wait(js: Any) -> str:
    """Let unacknowledged messages come again after 2 s, so that the test need not wait 30."""
    name = "ingest-on-data-landed"
    config = (await js.consumer_info("EVENTS", name)).config
    config.ack_wait = 2.0
    await js.add_consumer("EVENTS", config)
    return name
