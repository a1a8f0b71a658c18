"""One contract, two buses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from millrace.bus import Bus, DeadLetter, Subscription
from millrace.bus.codec import dead_letter
from millrace.bus.topology import CONSUMERS
from millrace.testing import InMemoryBus, InMemoryPublisher, InMemoryTransactor, InMemoryUnitOfWork
from millrace.testing.bus_contract import DURABLE, BusContract
from millrace.testing.publisher_contract import PublisherContract

Eventually = Callable[..., Awaitable[None]]


class MemoryWorld:
    def __init__(self) -> None:
        self.bus = InMemoryBus(service="ingest")
        self.transact = InMemoryTransactor(InMemoryUnitOfWork)

    async def consume(self, *subscriptions: Subscription) -> None:
        self.bus.subscribe(subscriptions, self.transact)

    async def publish(self, subject: str, raw: bytes) -> None:
        self.bus.publish_raw(subject, raw)

    async def settled(self) -> None:
        await self.bus.drain(self.transact.database)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return self.bus.dead_letters


class RealWorld:
    def __init__(self, bus: Bus, raw: Any, eventually: Callable[..., Awaitable[None]]) -> None:
        self.bus = bus
        self.raw = raw
        self.js = raw.jetstream()
        self.wanted = 0
        self.eventually = eventually
        self.transact = InMemoryTransactor(InMemoryUnitOfWork)

    async def consume(self, *subscriptions: Subscription) -> None:
        self.bus.subscribe(subscriptions, self.transact)
        await self.bus.start()
        await self.bus.wait_ready(10)

    async def publish(self, subject: str, raw: bytes) -> None:
        stored = await self.js.publish(subject, raw)
        if subject.startswith("evt.data.landed."):
            self.wanted = stored.seq

    async def settled(self) -> None:
        async def idle() -> bool:
            info = await self.js.consumer_info("EVENTS", DURABLE)
            done = info.ack_floor is not None and info.ack_floor.stream_seq >= self.wanted
            return bool(done and info.num_pending == 0 and info.num_ack_pending == 0)

        await self.eventually(idle, seconds=20)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        number = 1
        while True:
            try:
                message = await self.js.get_msg("DLQ", number)
            except NotFoundError:
                return found
            reply = f"$JS.ACK.DLQ.test.1.{number}.1.1.0"
            found.append(dead_letter(message.subject, message.data or b"", message.headers or {}, reply))
            number += 1


class TestInMemory(BusContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


@pytest.mark.servers
class TestNats(BusContract):
    @pytest.fixture
    def world(self, provisioned: Any, raw: Any, buses: Callable[..., Bus], eventually: Eventually) -> RealWorld:
        return RealWorld(buses(service="ingest", servers=provisioned.url), raw, eventually)


class TestInMemoryPublisher(PublisherContract):
    @pytest.fixture
    def publisher(self) -> InMemoryPublisher:
        return InMemoryPublisher()


@pytest.mark.servers
class TestNatsPublisher(PublisherContract):
    @pytest.fixture
    async def publisher(self, provisioned: Any, buses: Callable[..., Bus]) -> Any:
        bus = buses(service="catalog", servers=provisioned.url)
        await bus.start()
        await bus.wait_ready(10)
        return bus.publisher


def test_every_durable_of_the_suite_is_in_the_topology() -> None:
    assert CONSUMERS[DURABLE].service == "ingest"
