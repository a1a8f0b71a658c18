"""Leadership: one leader, stopped before anybody else may begin; and identities of processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.documents.client import Client
from millrace.documents.indexes import Database
from millrace.errors import Conflict, Fenced, Unavailable
from millrace.leases import Leadership, Lease, LeaseStore, ProcessIdentity
from millrace.tasks import cancel_and_wait
from millrace.testing import InMemoryLeaseStore, ManualClock
from millrace.testing.leases import LeaseTable

Eventually = Callable[..., Awaitable[None]]


class Flaky(InMemoryLeaseStore):
    """Cannot be reached while `away`."""

    away = False

    async def renew(self, lease: Lease) -> None:
        if self.away:
            raise Unavailable("MongoDB cannot be reached")
        await super().renew(lease)

    async def acquire(self, name: str, holder: str) -> Lease | None:
        if self.away:
            raise Unavailable("MongoDB cannot be reached")
        return await super().acquire(name, holder)


async def test_one_leads_and_the_other_follows_on_release() -> None:
    table, clock = LeaseTable(), ManualClock()
    leading: list[str] = []

    def candidate(name: str) -> asyncio.Task[None]:
        async def work(_lease: Lease) -> None:
            leading.append(name)
            await asyncio.Event().wait()

        store = InMemoryLeaseStore(table, clock=clock)
        return asyncio.create_task(Leadership(store, "relay", name, clock=clock).run(work))

    first = candidate("a")
    await clock.advance(0.1)
    second = candidate("b")
    await clock.advance(100)
    assert leading == ["a"]
    await cancel_and_wait([first])
    await clock.advance(5)
    assert leading == ["a", "b"]
    await cancel_and_wait([second])


async def test_a_leader_that_cannot_beat_stops_before_its_ttl() -> None:
    table, clock = LeaseTable(), ManualClock()
    store = Flaky(table, clock=clock, ttl=20)
    stopped: list[float] = []

    async def work(_lease: Lease) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(clock.monotonic())

    task = asyncio.create_task(Leadership(store, "relay", "a", clock=clock).run(work))
    await clock.advance(9)
    store.away = True
    last_beat = 5.0
    for _ in range(40):
        await clock.advance(1)
    assert stopped
    assert stopped[0] - last_beat < 20
    await cancel_and_wait([task])


async def test_a_leader_that_was_fenced_stops() -> None:
    table, clock, other = LeaseTable(), ManualClock(), ManualClock()
    rival = InMemoryLeaseStore(table, clock=other)
    cancelled: list[bool] = []

    async def work(_lease: Lease) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    leadership = Leadership(InMemoryLeaseStore(table, clock=clock), "relay", "a", clock=clock)
    task = asyncio.create_task(leadership.run(work))
    await clock.advance(0)
    assert leadership.lease is not None
    await rival.acquire("relay", "b")
    other.jump(21)
    assert await rival.acquire("relay", "b") is not None
    await clock.advance(6)
    assert cancelled
    await cancel_and_wait([task])


async def test_a_failure_of_the_work_is_raised_and_gives_the_lease_up() -> None:
    table, clock = LeaseTable(), ManualClock()
    store = InMemoryLeaseStore(table, clock=clock)

    async def work(_lease: Lease) -> None:
        raise Conflict("broken")

    with pytest.raises(Conflict):
        await Leadership(store, "relay", "a", clock=clock).run(work)
    assert await store.acquire("relay", "b") is not None


async def test_work_that_swallows_a_cancellation_is_cancelled_again() -> None:
    """The lease is only given back once the work has really ended."""
    table, clock = LeaseTable(), ManualClock()
    store = InMemoryLeaseStore(table, clock=clock)
    ended: list[bool] = []

    async def work(_lease: Lease) -> None:
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if ended:
                    raise
                ended.append(True)

    task = asyncio.create_task(Leadership(store, "relay", "a", clock=clock).run(work))
    await clock.advance(0)
    await cancel_and_wait([task])
    assert await store.acquire("relay", "b") is not None


def test_a_live_process_is_not_dead_and_an_ended_one_is() -> None:
    identity = ProcessIdentity()
    own = identity.describe()
    assert own["pid"] == str(os.getpid())
    assert not identity.is_dead(own)
    program = "from millrace.leases import ProcessIdentity; print(ProcessIdentity().describe())"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    import ast

    other = ast.literal_eval(output)
    assert identity.is_dead(other)


@pytest.mark.parametrize(
    "changed",
    [{"boot": "another"}, {"namespace": "pid:[1]"}, {"pid": "x"}, {"boot": None}],
)
def test_what_cannot_be_known_is_not_death(changed: dict[str, str | None]) -> None:
    described = {**ProcessIdentity().describe(), "pid": "999999999", **changed}
    assert not ProcessIdentity().is_dead({key: value for key, value in described.items() if value is not None})
    assert not ProcessIdentity().is_dead({})


def test_a_reused_pid_is_another_process() -> None:
    described = {**ProcessIdentity().describe(), "start": "1"}
    assert ProcessIdentity().is_dead(described)


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    identity = ProcessIdentity(tmp_path)
    assert identity.describe() == {}
    assert not identity.is_dead({"pid": "1", "start": "1", "boot": "b", "namespace": "n"})


class Dead(ProcessIdentity):
    """Judges everybody dead."""

    def is_dead(self, described: object) -> bool:
        return bool(described)


@pytest.mark.servers
class TestMongoOnly:
    async def test_a_provably_dead_holder_is_followed_at_once(self, database: Database) -> None:
        lease = await LeaseStore(database, identity=ProcessIdentity()).acquire("relay", "a")
        assert lease is not None
        assert await LeaseStore(database, identity=ProcessIdentity()).acquire("relay", "b") is None
        taken = await LeaseStore(database, identity=Dead()).acquire("relay", "b")
        assert taken is not None
        assert taken.token == 2

    async def test_without_an_identity_it_waits(self, database: Database) -> None:
        await LeaseStore(database).acquire("gpu", "a")
        assert await LeaseStore(database, identity=Dead()).acquire("gpu", "b") is None

    async def test_a_guarded_transaction_and_a_takeover_exclude_each_other(
        self, mongo: Client, database: Database
    ) -> None:
        """A transaction that began under the lease cannot commit after another took it."""
        from pymongo.errors import OperationFailure

        await database.create_collection("things")
        store, clock = LeaseStore(database), ManualClock()
        lease = await store.acquire("gpu", "a")
        assert lease is not None
        rival = LeaseStore(database, clock=clock)
        await rival.acquire("gpu", "b")
        clock.jump(21)
        async with mongo.start_session() as session:
            await session.start_transaction()
            await database["things"].insert_one({"_id": 1}, session=session)
            assert await rival.acquire("gpu", "b") is not None
            with pytest.raises((Fenced, OperationFailure)):
                await store.guard(lease, session)
            await session.abort_transaction()
        async with mongo.start_session() as session:
            await session.start_transaction()
            with pytest.raises(Fenced):
                await store.guard(lease, session)
            await session.abort_transaction()

    async def test_many_candidates_have_one_leader_at_a_time(self, database: Database, eventually: Eventually) -> None:
        """Ten leaders in turn, short terms, never two at once, tokens rising."""
        active: list[int] = []
        tokens: list[int] = []

        async def work(lease: Lease) -> None:
            active.append(lease.token)
            assert len(active) == 1
            tokens.append(lease.token)
            await asyncio.sleep(0.01)
            active.remove(lease.token)
            if len(tokens) >= 30:
                await asyncio.Event().wait()

        tasks = [
            asyncio.create_task(
                Leadership(LeaseStore(database, ttl=2.0), "relay", f"holder-{number}", clock=SystemClock()).run(work)
            )
            for number in range(10)
        ]
        await eventually(lambda: len(tokens) >= 30, seconds=60)
        await cancel_and_wait(tasks)
        assert tokens == sorted(set(tokens))
