"""The fixtures really start servers that do what the platform asks of them."""

from __future__ import annotations

import nats
import obstore
import pytest
from obstore.store import S3Store
from pymongo import AsyncMongoClient

from millrace_stack.pytest_plugin import S3, Mongo, Nats

pytestmark = pytest.mark.servers


async def test_nats_acknowledges_a_stored_message(nats_server: Nats) -> None:
    client = await nats.connect(nats_server.url)
    stream = client.jetstream()
    await stream.add_stream(name="T", subjects=["t.>"])
    assert (await stream.publish("t.a", b"x")).seq == 1
    await client.close()


async def test_mongo_runs_transactions(mongo_server: Mongo, mongo_database_name: str) -> None:
    async with AsyncMongoClient(mongo_server.uri) as client:
        things = client[mongo_database_name]["things"]
        async with client.start_session() as session, await session.start_transaction():
            await things.insert_one({"_id": 1}, session=session)
            await session.abort_transaction()
        assert await things.count_documents({}) == 0


def test_s3_refuses_to_create_an_object_twice(s3_server: S3, s3_bucket: str) -> None:
    store = S3Store(
        s3_bucket,
        endpoint=s3_server.endpoint,
        access_key_id=s3_server.access_key,
        secret_access_key=s3_server.secret_key,
        region=s3_server.region,
        client_options={"allow_http": True},
    )
    obstore.put(store, "a/b", b"one", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "a/b", b"two", mode="create")
    assert bytes(obstore.get(store, "a/b").bytes()) == b"one"
