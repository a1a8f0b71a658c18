from __future__ import annotations

import asyncio
import base64
import secrets
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from millrace.errors import DeadlineExceeded, Forbidden, Invalid, NotFound, Unavailable
from millrace.objects.azure import AzureObjectStore
from millrace.testing.object_store_contract import ODD_KEYS, ObjectStoreContract

pytestmark = pytest.mark.servers
SOON = timedelta(minutes=5)


def connect(server: Any, container: str, **overrides: Any) -> AzureObjectStore:
    options = {"account": server.account, "container": container, "key": server.key, "endpoint": server.endpoint}
    return AzureObjectStore(**{**options, **overrides})


@pytest.fixture
async def store(azure_server: Any) -> AsyncIterator[AzureObjectStore]:
    store = connect(azure_server, f"test-{secrets.token_hex(8)}")
    await store.ensure_bucket()
    yield store
    await store.close()


class TestAzureObjectStore(ObjectStoreContract):
    pass


async def test_the_probe_records_the_wire(store: AzureObjectStore) -> None:
    found = await store.probe()
    assert store.capabilities == found
    assert (found.presigned_create_only, found.checksums, found.multipart_minimum) == (True, True, 64 * 1024)
    assert found.notes == ()


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_who_holds_a_url_can_create_and_not_overwrite(store: AzureObjectStore, key: str) -> None:
    put = await store.presign("PUT", key, expires=SOON)
    async with httpx.AsyncClient() as client:
        assert (await client.put(put.url, content=b"one", headers=put.headers)).status_code == 201
        for headers in (put.headers, {"x-ms-blob-type": "BlockBlob"}):
            assert (await client.put(put.url, content=b"two", headers=headers)).status_code == 403
        for method in ("GET", "DELETE"):
            assert (await client.request(method, put.url)).status_code == 403
        get = await store.presign("GET", key, expires=SOON)
        answer = await client.get(get.url, headers={"Range": "bytes=1-2"})
        assert (answer.status_code, answer.content) == (206, b"ne")
        assert (await client.put(get.url, content=b"three", headers=put.headers)).status_code == 403


async def test_a_url_ends(store: AzureObjectStore) -> None:
    await store.put("old", b"x")
    get = await store.presign("GET", "old", expires=timedelta(seconds=-5))
    async with httpx.AsyncClient() as client:
        assert (await client.get(get.url)).status_code == 403


async def test_clients_may_know_the_lake_by_another_name(azure_server: Any) -> None:
    store = connect(azure_server, "far-away", public_endpoint="https://lake.example/blobs/")
    url = (await store.presign("GET", "a", expires=SOON)).url
    assert url.startswith("https://lake.example/blobs/far-away/a?sp=r&")
    assert "spr=https" in url
    await store.close()


async def test_ensure_bucket_may_be_called_by_many(azure_server: Any) -> None:
    store = connect(azure_server, f"many-{secrets.token_hex(4)}")
    await asyncio.gather(*(store.ensure_bucket() for _ in range(4)))
    assert await store.put("a", b"1")
    await store.close()


async def test_wrong_keys_are_forbidden(azure_server: Any) -> None:
    store = connect(azure_server, "wrong", key=base64.b64encode(b"wrong").decode())
    for call in (store.get("a"), store.put("a", b""), store.ensure_bucket()):
        with pytest.raises(Forbidden):
            await call
    await store.close()


async def test_what_no_account_can_be_is_refused_before_anything_connects(azure_server: Any) -> None:
    for wrong in ({"key": "no base64!"}, {"key": ""}, {"account": "../other"}, {"account": "A"}):
        with pytest.raises(Invalid):
            connect(azure_server, "c-o-n", **wrong)


async def test_a_name_that_no_container_can_have_is_refused(azure_server: Any) -> None:
    store = connect(azure_server, "NOT-a-container")
    with pytest.raises(Invalid):
        await store.ensure_bucket()
    await store.close()


async def test_a_missing_container_is_not_found(azure_server: Any) -> None:
    store = connect(azure_server, "no-such-container")
    with pytest.raises(NotFound):
        await store.get("a")
    with pytest.raises(NotFound):
        [info async for info in store.list("a/")]
    await store.close()


async def test_a_dead_endpoint_is_unavailable(azure_server: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = connect(
            azure_server, "c-o-n", endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}/millrace", retries=1
        )
        for call in (store.get("a"), store.put("a", b""), store.head("a"), store.ensure_bucket()):
            with pytest.raises(Unavailable):
                await call
        await store.close()


async def test_a_silent_endpoint_ends_by_the_deadline(azure_server: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/millrace"
        patient = connect(azure_server, "c-o-n", endpoint=endpoint, timeout=5, deadline=0.3, retries=0)
        with pytest.raises(DeadlineExceeded):
            await patient.get("a")
        await patient.close()


async def test_folders_are_listed_without_what_lies_in_them(store: AzureObjectStore) -> None:
    for key in ("one/a/b", "one/a-b/c", "one/file", "two/x/y/z", "top"):
        await store.put(key, b"")
    assert await store.folders("") == ["one", "two"]
    assert await store.folders("one/") == ["a", "a-b"]
    assert await store.folders("two/") == ["x"]
    assert await store.folders("none/") == []
