"""What every bus must do with a delivery. A test module subclasses this and gives the fixture `world`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import pytest

from millrace.bus.subscription import DeadLetter, Subscription
from millrace.clock import SystemClock
from millrace.documents.ports import UnitOfWork
from millrace.errors import Conflict, Unavailable
from millrace.events import DataLanded, build, encode
from millrace.events.envelope import AnyEvent

DURABLE = "ingest-on-data-landed"


class World(Protocol):
    """A bus of service `ingest`, with a transactor."""

    async def consume(self, *subscriptions: Subscription) -> None:
        """Begin to consume."""

    async def publish(self, subject: str, raw: bytes) -> None:
        """Store a message."""

    async def settled(self) -> None:
        """Wait until nothing waits for a delivery or a verdict."""

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Return the dead letters so far."""


def landed(project: str = "default", subject: str = "digits", sequence: int = 1) -> AnyEvent:
    """Return an event."""
    data = DataLanded(dataset="digits", uri="s3://bucket/landing/a")
    return build(data, source="/test", subject=subject, project=project, sequence=sequence, clock=SystemClock())


def altered(**changes: Any) -> bytes:
    """Return the bytes of an event with other attributes."""
    return json.dumps({**json.loads(encode(landed())), **changes}).encode()


POISON: dict[str, tuple[bytes, str]] = {
    "bad JSON": (b'{"specversion": "1.0", ', "unparsable-event"),
    "no JSON object": (b"[1, 2, 3]", "unparsable-event"),
    "not UTF-8": (b"\xff\xfe\x00", "unparsable-event"),
    "empty": (b"", "unparsable-event"),
    "unknown type": (altered(type="data.vanished", dataschema="urn:millrace:event:data.vanished:v1"), "unknown-event"),
    "another service's type": (
        altered(type="cache.ready", dataschema="urn:millrace:event:cache.ready:v1"),
        "unparsable-event",
    ),
    "future version": (altered(dataschema="urn:millrace:event:data.landed:v99"), "future-version"),
    "wrong project": (altered(project="somebody-else"), "mismatched-event"),
    "altered data": (altered(data={"dataset": "other", "uri": "s3://bucket/landing/a"}), "mismatched-event"),
    "NUL": (altered(subject="dig\0its"), "unparsable-event"),
    "lone surrogate": (altered(subject="dig\ud800its"), "unparsable-event"),
    "deep nesting": (b"[" * 50_000, "unparsable-event"),
    "NaN": (altered(sequence=float("nan")), "unparsable-event"),
}
"""Name → bytes on `evt.data.landed.v1.default`, and how the reason begins."""


class BusContract:
    """The contract suite: run on memory and on a real broker."""

    async def test_an_event_is_handled_in_the_transaction(self, world: World) -> None:
        """The handler gets the event and a unit of work; other types do not reach it."""
        got: list[tuple[str, bool]] = []

        async def handler(event: AnyEvent, uow: UnitOfWork) -> None:
            got.append((event.id, hasattr(uow, "emit")))

        await world.consume(Subscription(DURABLE, DataLanded, handler))
        event = landed()
        await world.publish("evt.labels.submitted.v1.default", b"{}")
        await world.publish(event.bus_subject, encode(event))
        await world.settled()
        assert got == [(event.id, True)]
        assert list(await world.dead_letters()) == []

    async def test_copies_have_one_effect(self, world: World) -> None:
        """The inbox knows the id, whatever the broker stored."""
        got: list[str] = []

        async def handler(event: AnyEvent, _uow: UnitOfWork) -> None:
            got.append(event.id)

        await world.consume(Subscription(DURABLE, DataLanded, handler))
        event = landed()
        for _ in range(5):
            await world.publish(event.bus_subject, encode(event))
        await world.settled()
        assert got == [event.id]

    async def test_a_transient_error_is_tried_again(self, world: World) -> None:
        """The third delivery works, and the effect happens once."""
        tries: list[str] = []

        async def handler(event: AnyEvent, _uow: UnitOfWork) -> None:
            tries.append(event.id)
            if len(tries) < 3:
                raise Unavailable("not yet")

        await self._run(world, handler)
        assert len(tries) == 3
        assert list(await world.dead_letters()) == []

    async def test_a_permanent_error_is_a_dead_letter_at_once(self, world: World) -> None:
        """With the reason, the original subject and the original bytes; the next event is handled."""
        tries: list[str] = []

        async def handler(event: AnyEvent, _uow: UnitOfWork) -> None:
            tries.append(event.subject)
            if event.subject == "bad":
                raise Conflict("it exists already")

        await world.consume(Subscription(DURABLE, DataLanded, handler))
        bad, good = landed(subject="bad"), landed(subject="good")
        await world.publish(bad.bus_subject, encode(bad))
        await world.publish(good.bus_subject, encode(good))
        await world.settled()
        assert sorted(tries) == ["bad", "good"]
        (letter,) = await world.dead_letters()
        assert letter.reason.startswith("conflict: it exists already")
        assert (letter.durable, letter.service, letter.error) == (DURABLE, "ingest", "Conflict")
        assert (letter.subject, letter.raw, letter.attempts) == (bad.bus_subject, encode(bad), 1)

    async def test_a_defect_is_a_dead_letter_after_a_few_tries(self, world: World) -> None:
        """An error that nobody foresaw is not retried for an hour."""
        tries: list[int] = []

        async def handler(_event: AnyEvent, _uow: UnitOfWork) -> None:
            tries.append(1)
            raise ZeroDivisionError("oops")

        await self._run(world, handler)
        (letter,) = await world.dead_letters()
        assert len(tries) == letter.attempts == 5
        assert "ZeroDivisionError" in letter.reason

    @pytest.mark.parametrize("name", POISON)
    async def test_poison_is_a_dead_letter_and_the_consumer_goes_on(self, world: World, name: str) -> None:
        """The reason says what is wrong; the bytes are kept as they were."""
        got: list[str] = []

        async def handler(event: AnyEvent, _uow: UnitOfWork) -> None:
            got.append(event.id)

        await world.consume(Subscription(DURABLE, DataLanded, handler))
        raw, reason = POISON[name]
        good = landed()
        await world.publish("evt.data.landed.v1.default", raw)
        await world.publish(good.bus_subject, encode(good))
        await world.settled()
        assert got == [good.id]
        (letter,) = await world.dead_letters()
        assert letter.reason.startswith(reason)
        assert letter.raw == raw

    async def test_outside_a_transaction(self, world: World) -> None:
        """The handler gets the event alone."""
        got: list[str] = []

        async def handler(event: AnyEvent) -> None:
            got.append(event.id)

        await world.consume(Subscription(DURABLE, DataLanded, handler, transactional=False))
        event = landed()
        await world.publish(event.bus_subject, encode(event))
        await world.settled()
        assert got == [event.id]

    async def _run(self, world: World, handler: Callable[..., Awaitable[None]]) -> None:
        await world.consume(Subscription(DURABLE, DataLanded, handler))
        event = landed()
        await world.publish(event.bus_subject, encode(event))
        await world.settled()
