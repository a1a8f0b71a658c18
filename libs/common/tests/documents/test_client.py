"""Deadlines, durability and translated errors."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    NetworkTimeout,
    OperationFailure,
)

from millrace.clock import SystemClock
from millrace.documents import connect, ensure_kernel_indexes, translate, translated
from millrace.documents.client import Client
from millrace.documents.indexes import Database
from millrace.documents.migrations import Migration, migrate
from millrace.errors import Conflict, DeadlineExceeded, Invalid, TooLarge, Unavailable
from millrace.leases import LeaseStore
from millrace_stack.ports import free_ports


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DuplicateKeyError("E11000"), Conflict),
        (BulkWriteError({"writeErrors": [{"code": 11000}]}), Conflict),
        (OperationFailure("schema", 121), Invalid),
        (DocumentTooLarge("16 MB"), TooLarge),
        (NetworkTimeout("slow"), DeadlineExceeded),
        (AutoReconnect("gone"), Unavailable),
        (OperationFailure("not authorized", 13), Unavailable),
        (OperationFailure("whatever", 1), Unavailable),
    ],
)
def test_driver_errors_become_ours(error: Any, kind: Any) -> None:
    assert type(translate(error)) is kind


def test_what_cannot_be_stored_is_invalid() -> None:
    import bson

    with pytest.raises(Invalid), translated():
        bson.encode({"x": object()})


def test_a_bad_connection_string_is_invalid_and_not_repeated() -> None:
    with pytest.raises(Invalid) as caught:
        connect("mongodb://user:secret@host:port/", app_name="x")
    assert "secret" not in str(caught.value)


async def test_an_absent_server_is_noticed_within_the_deadline() -> None:
    client = connect(f"mongodb://127.0.0.1:{free_ports(1)[0]}/?directConnection=true", app_name="x")
    clock = SystemClock()
    started = clock.monotonic()
    with pytest.raises(Unavailable), translated():
        await client["x"]["y"].find_one()
    assert clock.monotonic() - started < 6
    await client.close()


@pytest.mark.servers
async def test_every_write_is_durable_and_every_read_majority(mongo: Client) -> None:
    assert mongo.write_concern.document == {"w": "majority", "j": True}
    assert mongo.read_concern.document == {"level": "majority"}


@pytest.mark.servers
async def test_kernel_indexes_are_made_once_and_again(database: Database) -> None:
    await ensure_kernel_indexes(database)
    await ensure_kernel_indexes(database)
    inbox = await database["inbox"].index_information()
    assert inbox["at_ttl"]["expireAfterSeconds"] > 30 * 86_400


@pytest.mark.servers
class TestMigrations:
    async def test_each_runs_once_in_order(self, database: Database) -> None:
        ran: list[int] = []

        def change(number: int) -> Migration:
            async def apply(_db: Any) -> None:
                ran.append(number)

            return Migration(number, f"change {number}", apply)

        assert await migrate(database, [change(1)]) == [1]
        assert await migrate(database, [change(1), change(2), change(3)]) == [2, 3]
        assert await migrate(database, [change(1), change(2), change(3)]) == []
        assert ran == [1, 2, 3]

    async def test_an_interrupted_one_runs_again(self, database: Database) -> None:
        fails = [True]

        async def apply(_db: Any) -> None:
            if fails.pop():
                raise Unavailable("in between")

        migrations = [Migration(1, "flaky", apply)]
        with pytest.raises(Unavailable):
            await migrate(database, migrations)
        fails.append(False)
        assert await migrate(database, migrations) == [1]

    async def test_gaps_and_changed_names_are_refused(self, database: Database) -> None:
        async def apply(_db: Any) -> None:
            return

        with pytest.raises(Invalid):
            await migrate(database, [Migration(2, "b", apply)])
        await migrate(database, [Migration(1, "a", apply)])
        with pytest.raises(Invalid):
            await migrate(database, [Migration(1, "renamed", apply)])

    async def test_two_processes_do_not_migrate_at_once(self, database: Database) -> None:
        leases = LeaseStore(database)
        lease = await leases.acquire("migrations", "somebody")
        assert lease is not None
        with pytest.raises(Unavailable):
            await migrate(database, [], wait=0.3)
        await leases.release(lease)
        assert await migrate(database, [], wait=0.3) == []
