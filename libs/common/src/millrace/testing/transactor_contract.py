"""What every transactor must do. A test module subclasses this and gives the fixture `world`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import pytest

from millrace.documents.ports import UnitOfWork
from millrace.errors import Conflict, NotFound
from millrace.events import DataLanded


class World(Protocol):
    """A transactor whose documents the suite can write inside and read outside of transactions."""

    transact: Any
    kicks: int

    async def put(self, uow: Any, key: str, value: int) -> None:
        """Insert a document in the transaction; `Conflict` if the key is taken."""

    async def increment(self, uow: Any, key: str) -> None:
        """Read a document and write its value plus one, in the transaction."""

    async def get(self, key: str) -> int | None:
        """Return a committed document's value."""

    async def events(self) -> Sequence[tuple[str, str, int]]:
        """Return (type, subject, sequence) of the committed events."""

    async def audits(self) -> Sequence[str]:
        """Return the actions of the committed audit rows."""


def say(uow: UnitOfWork, sequence: int = 1) -> None:
    """Emit an event."""
    data = DataLanded(dataset="digits", uri="s3://bucket/landing/a")
    uow.emit(data, project="default", subject="digits", sequence=sequence)


class TransactorContract:
    """The contract suite: run on memory and on MongoDB."""

    async def test_effect_event_and_audit_are_one(self, world: World) -> None:
        """All three are there after the commit; the result is returned; the relay is kicked once."""
        called: list[str] = []

        async def work(uow: Any) -> str:
            await world.put(uow, "a", 1)
            say(uow)
            uow.audit("alice", "datasets:write", "datasets/digits", "default", {"why": "test"})
            uow.after_commit(lambda: called.append("done"))
            return "result"

        assert await world.transact(work) == "result"
        assert await world.get("a") == 1
        assert list(await world.events()) == [("data.landed", "digits", 1)]
        assert list(await world.audits()) == ["datasets:write"]
        assert (called, world.kicks) == (["done"], 1)

    async def test_a_failure_leaves_nothing(self, world: World) -> None:
        """Neither document nor event nor audit row nor call, and the error is the work's own."""
        called: list[str] = []

        async def work(uow: Any) -> None:
            await world.put(uow, "a", 1)
            say(uow)
            uow.audit("alice", "x", "y", "default", {})
            uow.after_commit(lambda: called.append("done"))
            raise NotFound("no")

        with pytest.raises(NotFound, match="no"):
            await world.transact(work)
        assert await world.get("a") is None
        assert (list(await world.events()), list(await world.audits()), called, world.kicks) == ([], [], [], 0)

    async def test_the_inbox_lets_an_effect_happen_once(self, world: World) -> None:
        """The second time returns None without work; another consumer's key is another."""
        runs: list[int] = []

        async def work(uow: Any) -> str:
            runs.append(1)
            say(uow)
            return "done"

        assert await world.transact(work, inbox=("c", "e1")) == "done"
        assert await world.transact(work, inbox=("c", "e1")) is None
        assert await world.transact(work, inbox=("d", "e1")) == "done"
        assert (len(runs), len(await world.events())) == (2, 2)

    async def test_a_failed_effect_may_be_tried_again(self, world: World) -> None:
        """The inbox forgets with the transaction."""

        async def fails(_uow: Any) -> None:
            raise NotFound("not yet")

        async def works(_uow: Any) -> str:
            return "done"

        with pytest.raises(NotFound):
            await world.transact(fails, inbox=("c", "e1"))
        assert await world.transact(works, inbox=("c", "e1")) == "done"

    async def test_the_same_event_at_once_has_one_effect(self, world: World) -> None:
        """Twenty deliveries run together, one works."""

        async def work(uow: Any) -> str:
            await world.increment(uow, "counter")
            return "done"

        async def start(uow: Any) -> None:
            await world.put(uow, "counter", 0)

        await world.transact(start)
        results = await asyncio.gather(*(world.transact(work, inbox=("c", "e1")) for _ in range(20)))
        assert sorted(filter(None, results)) == ["done"]
        assert await world.get("counter") == 1

    async def test_concurrent_changes_are_all_kept(self, world: World) -> None:
        """Reads and writes of one transaction see no other's half."""

        async def start(uow: Any) -> None:
            await world.put(uow, "counter", 0)

        async def work(uow: Any) -> None:
            await world.increment(uow, "counter")

        await world.transact(start)
        await asyncio.gather(*(world.transact(work) for _ in range(16)))
        assert await world.get("counter") == 16

    async def test_a_taken_key_is_a_conflict(self, world: World) -> None:
        """And nothing else of that transaction is kept."""

        async def work(uow: Any) -> None:
            say(uow)
            await world.put(uow, "a", 1)

        await world.transact(work)
        with pytest.raises(Conflict):
            await world.transact(work)
        assert len(await world.events()) == 1
