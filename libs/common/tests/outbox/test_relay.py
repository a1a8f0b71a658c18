"""The relay: once in normal operation, at least once under a crash, in order, and again after a wiped broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.documents import MongoUnitOfWork, Transactor, ensure_kernel_indexes
from millrace.documents.client import Client
from millrace.documents.indexes import Database
from millrace.errors import DeadlineExceeded, Forbidden, Unavailable
from millrace.events import DataLanded
from millrace.outbox import Inbox, Relay
from millrace.publishing import Published
from millrace.testing import InMemoryPublisher

pytestmark = pytest.mark.servers


class SlowPublisher(InMemoryPublisher):
    """Takes time, so that order within a window shows."""

    async def publish(self, subject: str, raw: bytes, **options: Any) -> Published:
        await asyncio.sleep(0.001)
        return await super().publish(subject, raw, **options)


class World:
    def __init__(self, client: Any, database: Database) -> None:
        self.client = client
        self.database = database
        self.publisher = SlowPublisher()
        self.relay = self.new_relay()
        self.transact = Transactor(client, database.name, MongoUnitOfWork, clock=SystemClock(), source="/millrace/test")
        self.transact.on_emit = self._kick

    def _kick(self) -> None:
        self.relay.kick()

    def new_relay(self, **options: Any) -> Relay:
        return Relay(self.client, self.database, self.publisher, SystemClock(), **options)

    async def say(self, subject: str, *sequences: int) -> list[str]:
        async def work(uow: MongoUnitOfWork) -> list[str]:
            data = DataLanded(dataset="digits", uri="s3://bucket/landing/a")
            return [uow.emit(data, project="default", subject=subject, sequence=number).id for number in sequences]

        return await self.transact(work)

    @contextlib.asynccontextmanager
    async def relaying(self, relay: Relay | None = None) -> AsyncIterator[Relay]:
        running = relay or self.relay
        task = asyncio.create_task(running.run())
        try:
            yield running
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def pending(self) -> int:
        return await self.database["outbox"].count_documents({"state": "pending"})

    def ids(self) -> list[str]:
        return [message.message_id for message in self.publisher.events()]


@pytest.fixture
async def world(mongo: Client, database: Database) -> World:
    await ensure_kernel_indexes(database)
    return World(mongo, database)


async def test_a_commit_is_published_at_once_and_once(world: World, eventually: Callable[..., Any]) -> None:
    """A kick wakes the relay long before its next poll."""
    world.relay = world.new_relay(poll=30.0)
    async with world.relaying():
        await world.say("warm", 1)
        await eventually(lambda: len(world.ids()) == 1)
        ids = await world.say("digits", 1, 2, 3)
        await eventually(lambda: len(world.ids()) == 4, seconds=5)
        assert world.ids()[1:] == ids
        await eventually(_drained(world))
    assert world.publisher.publishes == 4


def _drained(world: World) -> Callable[[], Any]:
    async def drained() -> bool:
        return await world.pending() == 0

    return drained


async def test_order_within_an_aggregate_is_kept(world: World) -> None:
    """Two hundred events of five aggregates, written in shuffled transactions."""
    for number in range(1, 41):
        await asyncio.gather(*(world.say(f"aggregate-{name}", number) for name in range(5)))
    while await world.relay.step():
        pass
    assert await world.pending() == 0
    import json

    seen: dict[str, list[int]] = {}
    for message in world.publisher.events():
        event = json.loads(message.raw)
        seen.setdefault(event["subject"], []).append(event["sequence"])
    assert seen == {f"aggregate-{name}": list(range(1, 41)) for name in range(5)}


async def stepped_to(world: World, ids: list[str]) -> bool:
    """Step once more, and say whether just these events are out."""
    await world.relay.step()
    return world.ids() == ids and not await world.pending()


async def test_a_failed_publish_holds_its_own_aggregate_only(world: World, eventually: Callable[..., Any]) -> None:
    """The one after it waits for it; others do not."""
    first = await world.say("a", 1)
    other = await world.say("b", 1)
    second = await world.say("a", 2)
    world.publisher.failures.append(Unavailable("no"))
    await world.relay.step()
    assert world.ids() == other
    assert "no" in (await world.relay.check() or "")
    await eventually(partial(stepped_to, world, other + first + second))
    assert await world.relay.check() is None


async def test_a_refused_event_waits_in_the_open(world: World) -> None:
    """It says why, is tried more and more seldom, and lets others pass."""
    await world.say("a", 1)
    world.publisher.failures += [Forbidden("this user may not")] * 3
    await world.relay.step()
    await world.relay.step()
    assert "may not" in (await world.relay.check() or "")
    await world.say("b", 1)
    world.publisher.failures.clear()
    await world.relay.step()
    assert len(world.ids()) == 1


async def test_a_lost_answer_publishes_again_under_the_same_id(world: World, eventually: Callable[..., Any]) -> None:
    """Unknown is not failed: the broker stores the id once."""
    ids = await world.say("a", 1)
    world.publisher.lost_answers.append(DeadlineExceeded("lost"))
    await world.relay.step()
    await eventually(partial(stepped_to, world, ids))
    assert world.publisher.publishes == 2
    assert await world.pending() == 0


async def test_a_broker_that_is_away_delays_and_loses_nothing(world: World, eventually: Callable[..., Any]) -> None:
    """The relay says so, and goes on when it is back."""
    world.publisher.down = True
    async with world.relaying():
        ids = await world.say("a", 1, 2)
        await eventually(lambda: world.relay._reason)
        assert "down" in (await world.relay.check() or "")
        world.publisher.down = False
        await eventually(lambda: world.ids() == ids)
        await eventually(_drained(world))

        async def content() -> bool:
            return await world.relay.check() is None

        await eventually(content)


async def test_a_wiped_broker_gets_everything_again_in_order(world: World) -> None:
    """Rows younger than max_age are sent again once; older ones are not."""
    ids = await world.say("a", 1, 2, 3)
    old = await world.say("b", 1)
    while await world.relay.step():
        pass
    await world.database["outbox"].update_one(
        {"_id": old[0]}, {"$set": {"created_at": SystemClock().now() - timedelta(days=31)}}
    )
    world.publisher.wipe()
    later = world.new_relay()
    await later.step()
    assert world.ids() == ids
    await world.say("a", 4)
    await later.step()
    assert len(world.ids()) == 4
    assert await world.pending() == 0


async def test_a_wipe_between_publish_and_mark_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is marked with the epoch it was sent in, which is not the new one."""
    ids = await world.say("a", 1)
    mark = world.relay._rows.mark_sent

    async def wipe_first(*args: Any, **options: Any) -> None:
        world.publisher.wipe()
        await mark(*args, **options)

    monkeypatch.setattr(world.relay._rows, "mark_sent", wipe_first)
    await world.relay.step()
    assert world.ids() == []
    monkeypatch.undo()
    world.relay._epochs_at = float("-inf")
    await world.relay.step()
    assert world.ids() == ids


async def test_one_relay_works_at_a_time(world: World, eventually: Callable[..., Any]) -> None:
    """Two run; each event is published once, by whichever leads."""
    second = world.new_relay()
    async with world.relaying(), world.relaying(second):
        for number in range(1, 21):
            await world.say("a", number)
        await eventually(_drained(world))
        leading = [relay._leadership.lease is not None for relay in (world.relay, second)]
        assert leading.count(True) == 1
    assert world.publisher.publishes == 20


async def test_the_next_relay_follows_at_once_on_a_clean_stop(world: World, eventually: Callable[..., Any]) -> None:
    """A stopped relay gives its lease back."""
    async with world.relaying():
        await world.say("a", 1)
        await eventually(lambda: len(world.ids()) == 1)
    async with world.relaying(world.new_relay()):
        await world.say("a", 2)
        await eventually(lambda: len(world.ids()) == 2, seconds=3)


async def test_large_backlogs_go_in_batches(world: World) -> None:
    """More than one batch, none missed, none twice."""
    for start in range(0, 700, 50):
        await asyncio.gather(*(world.say(f"s{number}", start + number + 1) for number in range(50)))
    while await world.relay.step():
        pass
    assert (len(set(world.ids())), world.publisher.publishes, await world.pending()) == (700, 700, 0)


async def test_the_inbox_answers(world: World) -> None:
    """What was handled is seen."""

    async def work(uow: MongoUnitOfWork) -> None:
        return

    await world.transact(work, inbox=("consumer", "event-1"))
    inbox = Inbox(world.database)
    assert await inbox.seen("consumer", "event-1")
    assert not await inbox.seen("consumer", "event-2")
    assert await inbox.count("consumer") == 1
