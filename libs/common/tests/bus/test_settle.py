"""What goes over the wire when a delivery ends, against a real server."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from millrace.bus import Bus, DeadLetter, Subscription
from millrace.bus.subscription import DEAD_LETTERS
from millrace.bus.topology import CONSUMERS
from millrace.clock import SystemClock
from millrace.errors import Conflict, TooLarge, Unavailable
from millrace.events import MAX_EVENT_BYTES, DataLanded, encode
from millrace.testing import InMemoryTransactor, InMemoryUnitOfWork
from millrace.testing.bus_contract import DURABLE, landed

Eventually = Callable[..., Awaitable[None]]

pytestmark = pytest.mark.servers

SUBJECT = "evt.data.landed.v1.default"


@pytest.fixture
def consume(provisioned: Any, buses: Callable[..., Bus]) -> Any:
    """Starts a bus of `ingest` with one handler outside transactions."""

    async def start(handler: Any, **options: Any) -> Bus:
        batch = options.pop("batch", 32)
        bus = buses(service="ingest", servers=provisioned.url, **options)
        bus.subscribe([Subscription(DURABLE, DataLanded, handler, transactional=False, batch=batch)])
        await bus.start()
        await bus.wait_ready(10)
        return bus

    return start


async def test_retries_come_later_and_later(consume: Any, raw: Any, eventually: Eventually) -> None:
    """0.2, 0.4, 0.8 seconds, never at once."""
    clock, times = SystemClock(), []

    async def handler(_event: Any) -> None:
        times.append(clock.monotonic())
        if len(times) < 4:
            raise Unavailable("not yet")

    await consume(handler)
    await raw.jetstream().publish(SUBJECT, encode(landed()))
    await eventually(lambda: len(times) == 4)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] >= 0.2
    assert gaps[1] >= 0.4
    assert gaps[2] >= 0.8


async def test_exhausted_retries_are_a_dead_letter(consume: Any, raw: Any, eventually: Eventually) -> None:
    async def handler(_event: Any) -> None:
        raise Unavailable("never")

    await consume(handler, attempts=3)
    event = landed()
    await raw.jetstream().publish(SUBJECT, encode(event), headers={"Nats-Expected-Stream": "EVENTS", "Extra": "kept"})

    async def stored() -> bool:
        return bool((await raw.jetstream().stream_info("DLQ")).state.messages == 1)

    await eventually(stored)
    letter = await raw.jetstream().get_msg("DLQ", 1)
    assert letter.subject == f"dlq.ingest.{DURABLE}"
    assert letter.data == encode(event)
    assert letter.headers["Millrace-Reason"] == "given up after 3 deliveries: Unavailable: never"
    assert letter.headers["Millrace-Sequence"] == "1"
    assert letter.headers["Millrace-Event-Id"] == event.id
    assert letter.headers["Extra"] == "kept"
    assert "Nats-Expected-Stream" not in letter.headers
    assert letter.headers["Nats-Msg-Id"].startswith(f"{DURABLE}-EVENTS-1-")


async def test_a_heartbeat_keeps_a_long_handler_alone(
    broker: Any, raw: Any, buses: Callable[..., Bus], eventually: Eventually
) -> None:
    """A handler that takes three times the acknowledgement period is not started twice."""
    from dataclasses import replace

    from millrace.bus.reconcile import reconcile
    from millrace.bus.topology import STREAMS, Consumer

    class Short(Consumer):
        def wanted(self) -> dict[str, Any]:
            return {**super().wanted(), "ack_wait": 1_000_000_000}

    short = Short(**{field: getattr(CONSUMERS[DURABLE], field) for field in CONSUMERS[DURABLE].__dataclass_fields__})
    assert replace(short) == short
    await reconcile(raw, STREAMS.values(), [short])
    started: list[int] = []

    async def handler(_event: Any) -> None:
        started.append(1)
        await asyncio.sleep(3)

    bus = buses(service="ingest", servers=broker.url, consumers={DURABLE: short}, ack_wait=1.0)
    bus.subscribe([Subscription(DURABLE, DataLanded, handler, transactional=False)])
    await bus.start()
    await bus.wait_ready(10)
    await raw.jetstream().publish(SUBJECT, encode(landed()))

    async def acked() -> bool:
        info = await raw.jetstream().consumer_info("EVENTS", DURABLE)
        return bool(info.ack_floor.stream_seq == 1)

    await eventually(acked)
    assert len(started) == 1


async def test_an_acknowledgement_is_confirmed(consume: Any, raw: Any, eventually: Eventually) -> None:
    async def handler(_event: Any) -> None:
        return

    await consume(handler)
    for _ in range(10):
        await raw.jetstream().publish(SUBJECT, encode(landed()))

    async def settled() -> bool:
        info = await raw.jetstream().consumer_info("EVENTS", DURABLE)
        return bool(info.ack_floor.stream_seq == 10 and info.num_redelivered == 0)

    await eventually(settled)


async def test_a_dead_letter_that_cannot_be_stored_keeps_the_event(
    consume: Any, raw: Any, eventually: Eventually
) -> None:
    """It is only given up once its copy is confirmed."""
    js = raw.jetstream()
    await js.delete_stream("DLQ")

    async def handler(_event: Any) -> None:
        raise Conflict("permanent")

    await consume(handler)
    await js.publish(SUBJECT, encode(landed()))
    await asyncio.sleep(0.5)
    info = await js.consumer_info("EVENTS", DURABLE)
    assert info.num_ack_pending == 1
    from millrace.bus.reconcile import reconcile
    from millrace.bus.topology import STREAMS

    await reconcile(raw, STREAMS.values(), CONSUMERS.values())

    async def stored() -> bool:
        return bool((await js.stream_info("DLQ")).state.messages == 1)

    await eventually(stored)


async def test_a_stop_finishes_what_is_quick_and_gives_back_what_is_not(
    consume: Any, raw: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.bus import session

    monkeypatch.setattr(session, "GRACE_SECONDS", 0.5)
    entered: list[str] = []

    async def handler(event: Any) -> None:
        entered.append(event.subject)
        await asyncio.sleep(0.1 if event.subject == "quick" else 60)

    bus = await consume(handler)
    js = raw.jetstream()
    await js.publish(SUBJECT, encode(landed(subject="quick")))
    await js.publish(SUBJECT, encode(landed(subject="slow")))
    await eventually(lambda: len(entered) == 2)
    await bus.stop()
    info = await js.consumer_info("EVENTS", DURABLE)
    assert info.ack_floor.stream_seq == 1
    again: list[str] = []

    async def quick(event: Any) -> None:
        again.append(event.subject)

    clock = SystemClock()
    started = clock.monotonic()
    await consume(quick)
    await eventually(lambda: again == ["slow"])
    assert clock.monotonic() - started < 5, "it was given back, not left to the acknowledgement period"


async def test_a_slow_event_does_not_hold_the_others(consume: Any, raw: Any, eventually: Eventually) -> None:
    """The window slides: a handler that hangs occupies one place of it."""
    done: list[int] = []
    release = asyncio.Event()

    async def handler(event: Any) -> None:
        if event.sequence == 0:
            await release.wait()
        done.append(event.sequence)

    await consume(handler, batch=8)
    js = raw.jetstream()
    for number in range(60):
        await js.publish(SUBJECT, encode(landed(subject=f"s{number}", sequence=number)))
    await eventually(lambda: len(done) == 59)
    release.set()
    await eventually(lambda: len(done) == 60)


async def test_events_of_one_aggregate_take_turns_in_order(consume: Any, raw: Any, eventually: Eventually) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    busy: dict[str, int] = {"a": 0, "b": 0}

    async def handler(event: Any) -> None:
        busy[event.subject] += 1
        assert busy[event.subject] == 1
        await asyncio.sleep(0.002)
        seen[event.subject].append(event.sequence)
        busy[event.subject] -= 1

    js = raw.jetstream()
    for number in range(40):
        await js.publish(SUBJECT, encode(landed(subject="a", sequence=number)))
        await js.publish(SUBJECT, encode(landed(subject="b", sequence=number)))
    await consume(handler)
    await eventually(lambda: len(seen["a"]) + len(seen["b"]) == 80)
    assert seen["a"] == seen["b"] == list(range(40))


async def test_hostile_headers_are_data(consume: Any, raw: Any, eventually: Eventually) -> None:
    """`Status` and `reply_to` in a stored message are nobody's orders."""
    got: list[str] = []

    async def handler(event: Any) -> None:
        got.append(event.id)

    await consume(handler)
    answered: list[str] = []

    async def answer(message: Any) -> None:
        answered.append(message.subject)

    await raw.subscribe("stolen.>", cb=answer)
    js = raw.jetstream()
    events = [landed() for _ in range(4)]
    for event, headers in zip(
        events,
        [
            {"Status": "503"},
            {"Status": "404", "Description": "No Messages"},
            {"reply_to": "stolen.answer"},
            {"Status": "100"},
        ],
        strict=True,
    ):
        await js.publish(SUBJECT, encode(event), headers=headers)
    await eventually(lambda: sorted(got) == sorted(event.id for event in events))
    assert answered == []


async def test_the_largest_event_fits_the_dead_letters_with_its_headers(
    consume: Any, raw: Any, eventually: Eventually
) -> None:
    """256 KiB of event, a long reason, and headers of its own."""

    async def handler(_event: Any) -> None:
        raise Conflict("x" * 5_000)

    await consume(handler)
    data = json.loads(encode(landed()))
    room = MAX_EVENT_BYTES - len(json.dumps(data).encode())
    data["padding"] = "x" * (room - len(', "padding": ""'))
    big = json.dumps(data).encode()
    assert len(big) == MAX_EVENT_BYTES
    headers = {f"Header-{number}": "v" * 100 for number in range(30)}
    await raw.jetstream().publish(SUBJECT, big, headers=headers)

    async def stored() -> bool:
        return bool((await raw.jetstream().stream_info("DLQ")).state.messages == 1)

    await eventually(stored)
    letter = await raw.jetstream().get_msg("DLQ", 1)
    assert letter.data == big
    assert letter.headers["Millrace-Reason"].startswith("conflict: xxx")
    assert letter.headers["Header-29"] == "v" * 100


async def test_larger_messages_are_refused(provisioned: Any, consume: Any, raw: Any) -> None:
    """One byte of event too much by the stream, 10 MB by the server itself."""
    from nats.errors import MaxPayloadError

    async def handler(_event: Any) -> None:
        return

    bus = await consume(handler)
    with pytest.raises(TooLarge):
        await bus.publisher.publish(SUBJECT, b"x" * (MAX_EVENT_BYTES + 5_000), message_id="big")
    with pytest.raises(TooLarge):
        await bus.publisher.publish(SUBJECT, b"x" * 10_000_000, message_id="huge")
    with pytest.raises(MaxPayloadError):
        await raw.publish(SUBJECT, b"x" * 10_000_000)
    refusal = await asyncio.to_thread(_publish_by_hand, provisioned.server.port, 10_000_000)
    assert "Maximum Payload Violation" in refusal


def _publish_by_hand(port: int, size: int) -> str:
    """Speak the protocol without a client that is polite enough to refuse."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        reader = connection.makefile("rb")
        reader.readline()
        connection.sendall(b'CONNECT {"verbose":false}\r\n' + f"PUB {SUBJECT} {size}\r\n".encode())
        for line in reader:
            if line.startswith(b"-ERR"):
                return line.decode()
    return ""


async def test_dead_letters_can_be_consumed_and_replayed(
    provisioned: Any, buses: Callable[..., Bus], raw: Any, eventually: Eventually
) -> None:
    """The catalog hears of a dead letter; its replay reaches that durable alone, and now works."""
    fixed: list[str] = []
    letters: list[DeadLetter] = []
    broken = [True]

    async def handler(event: Any, _uow: Any) -> None:
        if broken[0]:
            raise Conflict("not yet repaired")
        fixed.append(event.id)

    async def on_dead_letter(letter: DeadLetter, _uow: Any) -> None:
        letters.append(letter)

    ingest = buses(service="ingest", servers=provisioned.url)
    ingest.subscribe([Subscription(DURABLE, DataLanded, handler)], InMemoryTransactor(InMemoryUnitOfWork))
    catalog = buses(service="catalog", servers=provisioned.url)
    catalog.subscribe(
        [Subscription("catalog-on-dead-letter", DEAD_LETTERS, on_dead_letter)], InMemoryTransactor(InMemoryUnitOfWork)
    )
    for bus in (ingest, catalog):
        await bus.start()
        await bus.wait_ready(10)
    event = landed()
    await raw.jetstream().publish(SUBJECT, encode(event))
    await eventually(lambda: letters)
    (letter,) = letters
    assert (letter.durable, letter.event_id, letter.raw) == (DURABLE, event.id, encode(event))
    assert (letter.event_type, letter.project, letter.correlation) == ("data.landed", "default", event.correlationid)
    broken[0] = False
    headers = {"Millrace-Subject": letter.subject}
    await catalog.publisher.publish(f"replay.{letter.durable}", letter.raw, message_id="replay-1", headers=headers)
    await eventually(lambda: fixed == [event.id])


async def test_a_replay_that_fails_again_keeps_its_first_subject(
    provisioned: Any, consume: Any, raw: Any, eventually: Eventually
) -> None:
    async def handler(_event: Any) -> None:
        raise Conflict("still")

    bus = await consume(handler)
    await bus.publisher.publish(
        f"replay.{DURABLE}", encode(landed()), message_id="r1", headers={"Millrace-Subject": SUBJECT}
    )

    async def stored() -> bool:
        return bool((await raw.jetstream().stream_info("DLQ")).state.messages == 1)

    await eventually(stored)
    assert (await raw.jetstream().get_msg("DLQ", 1)).headers["Millrace-Subject"] == SUBJECT


async def test_a_replay_cannot_claim_another_project(
    provisioned: Any, consume: Any, raw: Any, eventually: Eventually
) -> None:
    """The first subject in the header is held against the event's own words."""

    async def handler(_event: Any) -> None:
        return

    bus = await consume(handler)
    event = landed(project="somebody-else")
    await bus.publisher.publish(
        f"replay.{DURABLE}", encode(event), message_id="r1", headers={"Millrace-Subject": SUBJECT}
    )

    async def stored() -> bool:
        return bool((await raw.jetstream().stream_info("DLQ")).state.messages == 1)

    await eventually(stored)
    assert (await raw.jetstream().get_msg("DLQ", 1)).headers["Millrace-Reason"].startswith("mismatched-event")
