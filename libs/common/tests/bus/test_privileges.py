"""Each user may do what its table says and nothing else, against a server that enforces it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import nkeys
import pytest

from millrace.bus import Bus, Subscription
from millrace.bus.provision import Provisioner
from millrace.bus.topology import (
    CONSUMERS,
    PROVISIONER,
    SERVICES,
    STREAMS,
    etl_user,
    inbox_prefix,
    permissions,
)
from millrace.clock import SystemClock
from millrace.errors import Forbidden, Unavailable
from millrace.events import EVENT_CLASSES, DataLanded, encode
from millrace.testing.bus_contract import DURABLE, landed
from millrace_stack.natsconf import accounts
from millrace_stack.ports import free_ports
from millrace_stack.servers import running
from millrace_stack.servers.nats import NatsServer

Eventually = Callable[..., Awaitable[None]]

pytestmark = pytest.mark.servers


class Guarded:
    """A server with one nkey per user."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def seed(self, user: str) -> Path:
        return self.folder / f"{user}.seed"

    async def connect(self, user: str, errors: list[str] | None = None) -> Any:
        async def note(error: Exception) -> None:
            if errors is not None:
                errors.append(str(error))

        return await nats.connect(
            self.url, nkeys_seed=str(self.seed(user)), inbox_prefix=inbox_prefix(user), error_cb=note
        )


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    folder = Path(tempfile.mkdtemp(prefix="millrace-users-"))
    users = permissions(("default", "other"))
    keys: dict[str, str] = {}
    for user in users:
        seed = nkeys.encode_seed(bytes([len(keys)]) * 32, nkeys.PREFIX_BYTE_USER)
        keys[user] = nkeys.from_seed(bytearray(seed)).public_key.decode()
        (folder / f"{user}.seed").write_bytes(seed)
        (folder / f"{user}.seed").chmod(0o600)
    server = NatsServer(folder / "nats", free_ports(1)[0], folder / "nats.log", users=accounts(users, keys))
    with running(server):
        asyncio.run(Provisioner(servers=server.url, seed_file=folder / "provisioner.seed").run(once=True))
        yield Guarded(server.url, folder)
    shutil.rmtree(folder, ignore_errors=True)


async def test_every_service_consumes_publishes_and_dead_letters(
    guarded: Guarded, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    """With its own rights alone: durables, its facts, its dead letters, stream epochs."""
    for name, service in SERVICES.items():
        bus = buses(service=name, servers=guarded.url, seed_file=guarded.seed(name))
        own = [item for item in CONSUMERS.values() if item.service == name and item.stream == "EVENTS"]

        async def handler(_event: Any, _uow: Any) -> None:
            return

        from millrace.bus.subscription import ALL
        from millrace.testing import InMemoryTransactor, InMemoryUnitOfWork

        bus.subscribe(
            [Subscription(item.durable, ALL, handler) for item in own], InMemoryTransactor(InMemoryUnitOfWork)
        )
        await bus.start()
        await bus.wait_ready(10)
        for fact in service.facts:
            subject = f"evt.{fact.replace('*', 'started')}.v1.default"
            assert (await bus.publisher.publish(subject, b"poison", message_id=f"{name}-{fact}")).stream == "EVENTS"
        assert await bus.publisher.stream_epoch("EVENTS")

    admin = await guarded.connect(PROVISIONER)

    async def all_settled() -> bool:
        for item in CONSUMERS.values():
            if item.stream == "EVENTS":
                info = await admin.jetstream().consumer_info("EVENTS", item.durable)
                if info.num_pending or info.num_ack_pending:
                    return False
        return True

    await eventually(all_settled)
    assert (await admin.jetstream().stream_info("DLQ")).state.messages > 0
    await admin.close()


async def test_a_neighbours_fact_is_denied_at_once(guarded: Guarded, buses: Callable[..., Bus]) -> None:
    """The server's error fails the publish as Forbidden, long before its deadline."""
    clock = SystemClock()
    bus = buses(service="serving", servers=guarded.url, seed_file=guarded.seed("serving"))
    await bus.start()
    await bus.wait_ready(10)
    started = clock.monotonic()
    with pytest.raises(Forbidden):
        await bus.publisher.publish("evt.dataset.committed.v1.default", b"{}", message_id="forged")
    with pytest.raises(Forbidden):
        await bus.publisher.publish(f"replay.{DURABLE}", b"{}", message_id="forged")
    with pytest.raises(Forbidden):
        await bus.publisher.publish("dlq.catalog.x", b"{}", message_id="forged")
    assert clock.monotonic() - started < 4


FORBIDDEN_PUBLISHES = [
    ("trainer", "evt.model.registered.v1.default"),
    ("trainer", "evt.training.requested.v1.default"),
    ("ingest", "evt.data.landed.v1.default"),
    ("drift-monitor", "evt.drift.detected"),
    ("cache-manager", "$JS.API.STREAM.DELETE.EVENTS"),
    ("catalog", "$JS.API.STREAM.PURGE.EVENTS"),
    ("catalog", "$JS.API.CONSUMER.DELETE.EVENTS.catalog-on-event"),
    ("trainer", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.catalog-on-event"),
    ("trainer", "$JS.ACK.EVENTS.catalog-on-event.1.1.1.1.0"),
    ("trainer", "$JS.API.STREAM.MSG.GET.EVENTS"),
    ("trainer", "_INBOX_catalog.x"),
    (etl_user("default"), "evt.data.landed.v1.other"),
    (etl_user("default"), "evt.dataset.committed.v1.default"),
    (etl_user("default"), "evt.data.landed.v2.default"),
    (etl_user("default"), "$JS.API.STREAM.INFO.EVENTS"),
]


@pytest.mark.parametrize(("user", "subject"), FORBIDDEN_PUBLISHES)
async def test_what_is_not_listed_is_denied(guarded: Guarded, eventually: Eventually, user: str, subject: str) -> None:
    errors: list[str] = []
    connection = await guarded.connect(user, errors)
    await connection.publish(subject, b"{}")
    await connection.flush()
    await eventually(lambda: any("permissions violation" in error.lower() for error in errors), seconds=5)
    await connection.close()


@pytest.mark.parametrize(
    ("user", "subject"),
    [("trainer", "evt.>"), ("trainer", "_INBOX_catalog.>"), (etl_user("default"), "data.landed.*"), ("serving", ">")],
)
async def test_nobody_listens_in(guarded: Guarded, eventually: Eventually, user: str, subject: str) -> None:
    errors: list[str] = []
    connection = await guarded.connect(user, errors)
    await connection.subscribe(subject)
    await connection.flush()
    await eventually(lambda: any("permissions violation" in error.lower() for error in errors), seconds=5)
    await connection.close()


async def test_an_etl_user_says_that_data_landed_and_is_heard(
    guarded: Guarded, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    """Exactly one subject, confirmed by the stream, consumed by ingest."""
    got: list[str] = []

    async def handler(event: Any) -> None:
        got.append(event.id)

    bus = buses(service="ingest", servers=guarded.url, seed_file=guarded.seed("ingest"))
    bus.subscribe([Subscription(DURABLE, DataLanded, handler, transactional=False)])
    await bus.start()
    await bus.wait_ready(10)
    etl = await guarded.connect(etl_user("default"))
    event = landed()
    ack = await etl.jetstream().publish(event.bus_subject, encode(event))
    assert ack.stream == "EVENTS"
    await eventually(lambda: event.id in got)
    await etl.close()


async def test_a_stranger_is_refused_and_the_bus_says_so(
    guarded: Guarded, buses: Callable[..., Bus], eventually: Eventually, tmp_path: Path
) -> None:
    """An unknown key: no crash, no silence; it connects once the server knows it."""
    seed = tmp_path / "stranger.seed"
    seed.write_bytes(nkeys.encode_seed(b"z" * 32, nkeys.PREFIX_BYTE_USER))
    bus = buses(service="ingest", servers=guarded.url, seed_file=seed)
    await bus.start()
    await eventually(lambda: "authorization" in " ".join(bus.health()).lower(), seconds=5)
    with pytest.raises(Unavailable):
        await bus.publisher.publish("evt.data.landed.v1.default", b"{}", message_id="x")
    with contextlib.suppress(OSError):
        seed.unlink()


def test_the_table_covers_every_event_type() -> None:
    """Each known type has exactly the publishers of the design, and lists are allow-lists without a bare wildcard."""
    published = {fact for service in SERVICES.values() for fact in service.facts}
    assert {kind for kind, _ in EVENT_CLASSES} <= published
    users = permissions()
    for user, allowed in users.items():
        assert ">" not in allowed.publish + allowed.subscribe, user
        assert "evt.>" not in allowed.publish, user
        if user != PROVISIONER:
            assert not any(subject.startswith("$JS.API.>") for subject in allowed.publish), user
    shared = [fact for fact in published if sum(fact in service.facts for service in SERVICES.values()) > 1]
    assert shared == ["data.landed"]


def test_durables_are_named_for_what_they_hear() -> None:
    for consumer in CONSUMERS.values():
        assert consumer.durable.startswith(f"{consumer.service}-on-")
        assert consumer.stream in STREAMS
        if consumer.stream == "EVENTS":
            assert f"replay.{consumer.durable}" in consumer.subjects
