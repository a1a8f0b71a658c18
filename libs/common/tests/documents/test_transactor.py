"""One contract for memory and MongoDB, and what only a real server can show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from millrace.clock import SystemClock
from millrace.documents import MongoUnitOfWork, Transactor, ensure_kernel_indexes
from millrace.documents.client import Client
from millrace.documents.indexes import Database
from millrace.errors import Conflict, DeadlineExceeded, Unavailable
from millrace.testing import InMemoryTransactor, InMemoryUnitOfWork
from millrace.testing.transactor_contract import TransactorContract, say


class MemoryWorld:
    def __init__(self) -> None:
        self.kicks = 0
        self.transact = InMemoryTransactor(InMemoryUnitOfWork, on_emit=self._kick)

    def _kick(self) -> None:
        self.kicks += 1

    async def put(self, uow: Any, key: str, value: int) -> None:
        if key in uow.collection("things"):
            raise Conflict("taken")
        uow.collection("things")[key] = value

    async def increment(self, uow: Any, key: str) -> None:
        uow.collection("things")[key] += 1

    async def get(self, key: str) -> int | None:
        return self.transact.database.documents.get("things", {}).get(key)

    async def events(self) -> Sequence[tuple[str, str, int]]:
        return [(event.type, event.subject, event.sequence) for event in self.transact.database.events]

    async def audits(self) -> Sequence[str]:
        return [row["action"] for row in self.transact.database.audits]


class MongoWorld:
    def __init__(self, client: Any, database: Database) -> None:
        self.kicks = 0
        self.database = database
        self.transact = Transactor(
            client, database.name, MongoUnitOfWork, clock=SystemClock(), source="/millrace/test", on_emit=self._kick
        )

    def _kick(self) -> None:
        self.kicks += 1

    async def put(self, uow: Any, key: str, value: int) -> None:
        await uow.database["things"].insert_one({"_id": key, "value": value}, session=uow.session)

    async def increment(self, uow: Any, key: str) -> None:
        found = await uow.database["things"].find_one({"_id": key}, session=uow.session)
        change = {"$set": {"value": found["value"] + 1}}
        await uow.database["things"].update_one({"_id": key}, change, session=uow.session)

    async def get(self, key: str) -> int | None:
        found = await self.database["things"].find_one({"_id": key})
        return None if found is None else found["value"]

    async def events(self) -> Sequence[tuple[str, str, int]]:
        rows = [row async for row in self.database["outbox"].find().sort("created_at")]
        assert all(row["state"] == "pending" and row["raw"] for row in rows)
        return [
            (".".join(row["subject"].split(".")[1:3]), row["aggregate"].split("/")[2], row["sequence"]) for row in rows
        ]

    async def audits(self) -> Sequence[str]:
        return [row["action"] async for row in self.database["audit"].find()]


class TestInMemory(TransactorContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


@pytest.mark.servers
class TestMongo(TransactorContract):
    @pytest.fixture
    async def world(self, mongo: Client, database: Database) -> MongoWorld:
        await ensure_kernel_indexes(database)
        await database.create_collection("things")
        return MongoWorld(mongo, database)

    async def test_a_transient_error_runs_the_work_again(self, world: MongoWorld) -> None:
        runs: list[int] = []

        async def work(uow: MongoUnitOfWork) -> str:
            runs.append(1)
            await world.put(uow, "a", len(runs))
            if len(runs) < 3:
                raise OperationFailure("conflict", 112, {"errorLabels": ["TransientTransactionError"]})
            return "done"

        assert await world.transact(work) == "done"
        assert await world.get("a") == 3

    async def test_a_translated_transient_error_runs_the_work_again(self, world: MongoWorld) -> None:
        """An adapter that translates too early hides no label."""
        runs: list[int] = []

        async def work(uow: MongoUnitOfWork) -> str:
            runs.append(1)
            if len(runs) < 2:
                cause = OperationFailure("conflict", 112, {"errorLabels": ["TransientTransactionError"]})
                raise Unavailable("MongoDB") from cause
            return "done"

        assert await world.transact(work) == "done"

    async def test_retries_end_at_the_deadline(self, mongo: Client, database: Database) -> None:
        transact = Transactor(
            mongo, database.name, MongoUnitOfWork, clock=SystemClock(), source="/millrace/test", deadline=0.3
        )

        async def work(uow: MongoUnitOfWork) -> None:
            raise OperationFailure("conflict", 112, {"errorLabels": ["TransientTransactionError"]})

        with pytest.raises(Unavailable):
            await transact(work)

    async def test_an_unconfirmed_commit_is_repeated_and_then_unknown(
        self, world: MongoWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The commit is asked for again; when no answer comes in time, the outcome is called unknown."""
        from pymongo.asynchronous.client_session import AsyncClientSession

        commit = AsyncClientSession.commit_transaction
        failures = [AutoReconnect("gone"), AutoReconnect("gone")]

        async def flaky(session: AsyncClientSession) -> None:
            await commit(session)
            if failures:
                error = failures.pop()
                error._add_error_label("UnknownTransactionCommitResult")
                raise error

        monkeypatch.setattr(AsyncClientSession, "commit_transaction", flaky)

        async def work(uow: MongoUnitOfWork) -> str:
            await world.put(uow, "a", 1)
            return "done"

        assert await world.transact(work) == "done"
        assert failures == []
        failures += [AutoReconnect("gone") for _ in range(1_000)]
        world.transact._deadline = 0.2

        async def other(uow: MongoUnitOfWork) -> None:
            await world.put(uow, "b", 1)

        with pytest.raises(DeadlineExceeded, match="unknown"):
            await world.transact(other)
        failures.clear()
        assert await world.get("b") == 1

    async def test_a_broken_call_after_the_commit_breaks_nothing(self, world: MongoWorld) -> None:
        def broken() -> None:
            raise ZeroDivisionError

        async def work(uow: MongoUnitOfWork) -> str:
            say(uow)
            uow.after_commit(broken)
            return "done"

        assert await world.transact(work) == "done"
        assert world.kicks == 1

    async def test_rows_carry_the_current_span(self, world: MongoWorld) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        async def work(uow: MongoUnitOfWork) -> None:
            say(uow)

        with TracerProvider().get_tracer("t").start_as_current_span("outer") as span:
            await world.transact(work)
        row = await world.database["outbox"].find_one()
        assert row is not None
        assert row["traceparent"].split("-")[1] == f"{span.get_span_context().trace_id:032x}"
        assert row["traceparent"].encode() in row["raw"]

    async def test_a_cancelled_transaction_leaves_nothing(self, world: MongoWorld) -> None:
        entered = asyncio.Event()

        async def work(uow: MongoUnitOfWork) -> None:
            await world.put(uow, "a", 1)
            entered.set()
            await asyncio.sleep(30)

        task = asyncio.create_task(world.transact(work))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await world.get("a") is None
