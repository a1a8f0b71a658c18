"""A broker that stops, loses its store, or loses a consumer while services run."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.errors import Error as NatsError

from millrace.bus import Bus, RawMessage, Subscription
from millrace.bus.provision import Provisioner
from millrace.clock import SystemClock
from millrace.documents import MongoUnitOfWork, Transactor, ensure_kernel_indexes
from millrace.documents.client import Client
from millrace.errors import Invalid, Unavailable
from millrace.events import DataLanded, encode
from millrace.outbox import Relay
from millrace.testing.bus_contract import DURABLE, landed

Eventually = Callable[..., Awaitable[None]]

pytestmark = pytest.mark.servers

SUBJECT = "evt.data.landed.v1.default"


class Services:
    """A catalog that emits and an ingest that consumes, each with its own database, on real servers."""

    def __init__(self, client: Any, name: str, url: str, buses: Callable[..., Bus]) -> None:
        clock = SystemClock()
        self.emitting = client[f"{name}-catalog"]
        self.consuming = client[f"{name}-ingest"]
        self.catalog: Bus = buses(service="catalog", servers=url)
        self.ingest: Bus = buses(service="ingest", servers=url)
        self.emit = Transactor(client, self.emitting.name, MongoUnitOfWork, clock=clock, source="/millrace/catalog")
        self.apply = Transactor(client, self.consuming.name, MongoUnitOfWork, clock=clock, source="/millrace/ingest")
        self.relay = Relay(client, self.emitting, self.catalog.publisher, clock)
        self.emit.on_emit = self.relay.kick
        self.deliveries = 0

    async def open(self) -> None:
        for database in (self.emitting, self.consuming):
            await ensure_kernel_indexes(database)
            await database.create_collection("effects")
        self.ingest.subscribe([Subscription(DURABLE, DataLanded, self._effect)], self.apply)
        for bus in (self.catalog, self.ingest):
            await bus.start()
        self.task = asyncio.create_task(self.relay.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.catalog.stop()
        await self.ingest.stop()
        await self.emitting.client.drop_database(self.emitting.name)
        await self.emitting.client.drop_database(self.consuming.name)

    async def _effect(self, event: Any, uow: MongoUnitOfWork) -> None:
        """Insert without looking: a second effect would be a second document."""
        self.deliveries += 1
        await uow.database["effects"].insert_one({"event": event.id}, session=uow.session)

    async def say(self, count: int) -> list[str]:
        async def work(uow: MongoUnitOfWork) -> list[str]:
            data = DataLanded(dataset="digits", uri="s3://bucket/landing/a")
            subject = f"s{random.randrange(10**9)}"
            return [
                uow.emit(data, project="default", subject=subject, sequence=number + 1).id for number in range(count)
            ]

        return await self.emit(work)

    async def effects(self) -> list[str]:
        return [row["event"] async for row in self.consuming["effects"].find()]

    async def everything_once(self, ids: list[str]) -> bool:
        return sorted(await self.effects()) == sorted(ids)


@pytest.fixture
async def services(mongo: Client, mongo_database_name: Any, broker: Any, buses: Callable[..., Bus]) -> Any:
    built = Services(mongo, mongo_database_name, broker.url, buses)
    await built.open()
    yield built
    await built.close()


async def test_events_flow_from_commit_to_effect(
    services: Services, provisioner: Provisioner, eventually: Eventually
) -> None:
    ids = await services.say(20)
    await eventually(lambda: services.everything_once(ids))


async def test_a_killed_broker_delays_and_loses_nothing(
    services: Services, provisioner: Provisioner, broker: Any, eventually: Eventually
) -> None:
    ids = await services.say(5)
    await eventually(lambda: services.everything_once(ids))
    broker.kill()
    await eventually(lambda: "reconnects" in " ".join(services.ingest.health()))
    ids += await services.say(5)
    broker.start()
    await eventually(lambda: services.everything_once(ids))
    await eventually(lambda: not services.ingest.health() and not services.catalog.health())


async def test_a_wiped_broker_gets_everything_again_and_each_effect_happens_once(
    services: Services, provisioner: Provisioner, broker: Any, raw: Any, eventually: Eventually
) -> None:
    """The store is deleted while all services run: streams come back, the outbox is sent again, nothing doubles."""
    ids = await services.say(150)
    await eventually(lambda: services.everything_once(ids))
    broker.kill()
    broker.wipe()
    ids += await services.say(20)
    broker.start()
    await eventually(lambda: services.everything_once(ids), seconds=30)

    async def stored_again() -> bool:
        with contextlib.suppress(Exception):
            return bool((await raw.jetstream().stream_info("EVENTS")).state.messages == len(ids))
        return False

    await eventually(stored_again, seconds=30)
    ids += await services.say(3)
    await eventually(lambda: services.everything_once(ids))


async def test_an_old_acknowledgement_does_not_settle_a_new_message(
    provisioner: Provisioner, broker: Any, raw: Any, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    """A handler outlives the wipe of the store: what it settles has the same number as another message by then."""
    release = asyncio.Event()
    tries: list[str] = []
    done: list[str] = []

    async def handler(event: Any) -> None:
        tries.append(event.subject)
        if event.subject == "old":
            await release.wait()
        elif tries.count("new") == 1:
            raise Unavailable("not yet")
        done.append(event.subject)

    bus = buses(service="ingest", servers=broker.url)
    bus.subscribe([Subscription(DURABLE, DataLanded, handler, transactional=False)])
    await bus.start()
    await bus.wait_ready(10)
    await raw.jetstream().publish(SUBJECT, encode(landed(subject="old")))
    await eventually(lambda: tries == ["old"])
    broker.kill()
    broker.wipe()
    broker.start()
    await eventually(bus.health)
    await bus.wait_ready(15)

    new = encode(landed(subject="new"))

    async def published() -> bool:
        with contextlib.suppress(NatsError, TimeoutError):
            return bool((await raw.jetstream().publish(SUBJECT, new, headers={"Nats-Msg-Id": "new"})).seq == 1)
        return False

    await eventually(published)
    await eventually(lambda: "new" in tries)
    release.set()
    await eventually(lambda: sorted(done) == ["new", "old"])


async def test_a_deleted_consumer_is_noticed_and_its_successor_used(
    broker: Any, raw: Any, provisioned: Any, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    got: list[str] = []

    async def handler(event: Any) -> None:
        got.append(event.id)

    bus = buses(service="ingest", servers=broker.url)
    bus.subscribe([Subscription(DURABLE, DataLanded, handler, transactional=False)])
    await bus.start()
    await bus.wait_ready(10)
    await raw.jetstream().delete_consumer("EVENTS", DURABLE)
    await eventually(lambda: any("consumer not found" in reason for reason in bus.health()), seconds=5)
    from millrace.bus.reconcile import reconcile
    from millrace.bus.topology import CONSUMERS, STREAMS

    await reconcile(raw, STREAMS.values(), CONSUMERS.values())
    await eventually(lambda: not bus.health(), seconds=5)
    event = landed()
    await raw.jetstream().publish(SUBJECT, encode(event))
    await eventually(lambda: got == [event.id])


async def test_a_missing_consumer_costs_no_cpu(
    broker: Any, raw: Any, provisioned: Any, buses: Callable[..., Bus]
) -> None:
    """nats-py's own fetch spins here; ours pauses."""
    import time

    async def handler(_event: Any) -> None:
        return

    bus = buses(service="ingest", servers=broker.url)
    bus.subscribe([Subscription(DURABLE, DataLanded, handler, transactional=False)])
    await bus.start()
    await bus.wait_ready(10)
    await raw.jetstream().delete_consumer("EVENTS", DURABLE)
    before = time.process_time()
    await asyncio.sleep(2)
    assert time.process_time() - before < 0.5


async def test_a_bus_without_a_server_starts_and_says_what_it_waits_for(
    broker: Any, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    broker.kill()
    bus = buses(service="ingest", servers=broker.url)
    await bus.start()
    await eventually(lambda: "Connect call failed" in " ".join(bus.health()), seconds=5)
    with pytest.raises(Unavailable):
        await bus.publisher.publish(SUBJECT, b"{}", message_id="x")
    await bus.publish_telemetry("tlm.progress.x", b"{}")
    with pytest.raises(Unavailable):
        await bus.publish_telemetry("tlm.inference.default.x", b"{}", stored=True)
    with pytest.raises(Invalid):
        await bus.publish_telemetry("evt.data.landed.v1.default", b"{}")
    broker.start()
    await bus.wait_ready(10)
    assert await bus.check() is None


async def test_core_subscriptions_outlive_reconnects(
    broker: Any, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    heard: list[tuple[str, bytes]] = []

    async def callback(subject: str, payload: bytes) -> None:
        heard.append((subject, payload))
        if payload == b"bad":
            raise ValueError("a broken handler breaks nothing")

    catalog = buses(service="catalog", servers=broker.url)
    trainer = buses(service="trainer", servers=broker.url)
    await catalog.subscribe_core("tlm.progress.>", callback)
    for bus in (catalog, trainer):
        await bus.start()
        await bus.wait_ready(10)
    await catalog.subscribe_core("tlm.logs.>", callback)
    await trainer.publish_telemetry("tlm.progress.run1", b"bad")
    await trainer.publish_telemetry("tlm.logs.run1", b"line", {"h": "v"})
    await eventually(lambda: len(heard) == 2)
    broker.kill()
    broker.start()

    async def heard_again() -> bool:
        await trainer.publish_telemetry("tlm.progress.run1", b"2")
        return ("tlm.progress.run1", b"2") in heard

    await eventually(heard_again)


async def test_columnar_batches_are_pulled_raw(
    provisioned: Any, raw: Any, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    """Stored telemetry by its own id; settled by hand; the loss of its consumer is an error."""
    serving = buses(service="serving", servers=provisioned.url)
    monitor = buses(service="drift-monitor", servers=provisioned.url)
    for bus in (serving, monitor):
        await bus.start()
        await bus.wait_ready(10)
    for number in range(3):
        headers = {"Nats-Msg-Id": f"w-b-{number // 2}", "worker": "w"}
        await serving.publish_telemetry("tlm.inference.default.digits", b"arrow", headers, stored=True)
    found: list[RawMessage] = []
    while len(found) < 2:
        found += await monitor.pull_raw("INFERENCE", "drift-monitor-on-inference", 10)
    assert [item.position.sequence for item in found] == [1, 2]
    assert (found[0].data, found[0].headers["worker"]) == (b"arrow", "w")
    await found[0].ack()
    await found[1].nak(0.1)
    (again,) = await monitor.pull_raw("INFERENCE", "drift-monitor-on-inference", 10, seconds=5)
    assert (again.position.sequence, again.position.delivered) == (2, 2)
    await again.in_progress()
    await again.term()
    assert await monitor.pull_raw("INFERENCE", "drift-monitor-on-inference", 10, seconds=0.1) == []
    await raw.jetstream().delete_consumer("INFERENCE", "drift-monitor-on-inference")

    async def gone() -> bool:
        try:
            await monitor.pull_raw("INFERENCE", "drift-monitor-on-inference", 10, seconds=0.1)
        except Unavailable:
            return True
        return False

    await eventually(gone)


def test_what_the_topology_does_not_give_is_refused() -> None:
    async def handler(_event: Any, _uow: Any) -> None:
        return

    bus = Bus(service="ingest", servers="nats://127.0.0.1:1")
    with pytest.raises(Invalid):
        bus.subscribe([Subscription("trainer-on-cache-ready", DataLanded, handler, transactional=False)])
    with pytest.raises(Invalid):
        bus.subscribe([Subscription("ingest-on-nothing", DataLanded, handler, transactional=False)])
    with pytest.raises(Invalid):
        bus.subscribe([Subscription(DURABLE, DataLanded, handler)])


async def test_a_thousand_events_doubled_and_shuffled_have_one_effect_each(
    services: Services, provisioner: Provisioner, raw: Any, eventually: Eventually
) -> None:
    """Published past the broker's dedup, three times each, in any order, with a consumer restart in between."""
    await eventually(lambda: not services.ingest.health())
    events = [landed(subject=f"s{number % 37}", sequence=number) for number in range(1_000)]
    copies = events * 3
    random.Random(7).shuffle(copies)
    js = raw.jetstream()
    for start in range(0, len(copies), 500):
        futures = [await js.publish_async(event.bus_subject, encode(event)) for event in copies[start : start + 500]]
        await asyncio.gather(*futures)
    await eventually(lambda: services.everything_once([event.id for event in events]), seconds=90)

    async def idle() -> bool:
        info = await js.consumer_info("EVENTS", DURABLE)
        return bool(info.num_pending == 0 and info.num_ack_pending == 0)

    await eventually(idle, seconds=90)
    assert await services.everything_once([event.id for event in events])
