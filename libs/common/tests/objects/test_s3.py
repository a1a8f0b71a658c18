from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
import pytest
from obstore.store import S3Store

from millrace.errors import DeadlineExceeded, Forbidden, Invalid, NotFound, Unavailable
from millrace.objects.s3 import S3ObjectStore
from millrace.objects.v4_signing import AccessKey, object_url, signed_url
from millrace.testing.object_store_contract import ObjectStoreContract

if TYPE_CHECKING:
    from obstore.store import S3Config

pytestmark = pytest.mark.servers


def connect(server: Any, bucket: str, **overrides: Any) -> S3ObjectStore:
    options = {
        "endpoint": server.endpoint,
        "bucket": bucket,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
    return S3ObjectStore(**{**options, **overrides})


@pytest.fixture
async def store(s3_server: Any, s3_bucket: str) -> AsyncIterator[S3ObjectStore]:
    store = connect(s3_server, s3_bucket)
    yield store
    await store.close()


class TestS3ObjectStore(ObjectStoreContract):
    pass


async def test_the_probe_records_the_wire(store: S3ObjectStore) -> None:
    found = await store.probe()
    assert store.capabilities == found
    assert found.presigned_create_only is True
    assert found.checksums is True
    assert found.multipart_minimum == 5 * 1024 * 1024


async def test_it_works_without_create_only_put(store: S3ObjectStore) -> None:
    store.capabilities = replace(await store.probe(), create_only=False)
    assert await store.put("once", b"first", create_only=True) is True
    assert await store.put("once", b"second", create_only=True) is False
    assert await store.get("once") == b"first"


async def test_it_works_without_ranges(store: S3ObjectStore) -> None:
    store.capabilities = replace(await store.probe(), ranges=False)
    await store.put("whole", b"0123456789")
    assert list(await store.get_ranges("whole", [(2, 3), (9, 1)])) == [b"234", b"9"]
    with pytest.raises(Invalid):
        await store.get_range("whole", 9, 2)


async def test_presigned_urls_work_and_put_does_not_overwrite(store: S3ObjectStore) -> None:
    put = await store.presign("PUT", "p/signed key", expires=timedelta(minutes=5))
    assert put.headers == {"if-none-match": "*"}
    async with httpx.AsyncClient() as client:
        assert (await client.put(put.url, content=b"zero")).status_code == 403  # the precondition is signed, too
        assert (await client.put(put.url, content=b"one", headers=put.headers)).status_code == 200
        assert (await client.put(put.url, content=b"two", headers=put.headers)).status_code == 412
        get = await store.presign("GET", "p/signed key", expires=timedelta(minutes=5))
        answer = await client.get(get.url, headers={"Range": "bytes=1-2"})
        assert (answer.status_code, answer.content) == (206, b"ne")
        assert (await client.put(get.url, content=b"three")).status_code == 403


@pytest.mark.parametrize("key", ["p/signed key", "a/b-c_d~e", "deep/er/and/dee+per", "ä/=&?%"])
def test_a_url_is_signed_as_obstore_signs_it(key: str) -> None:
    config: S3Config = {
        "endpoint": "https://s3.example.org",
        "region": "eu-x",
        "virtual_hosted_style_request": False,
        "access_key_id": "AK",
        "secret_access_key": "hush",
    }
    theirs: str = obstore.sign(S3Store("box", config=config), "GET", key, timedelta(minutes=5))
    at = datetime.strptime(parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    url = object_url("https://s3.example.org/box", key)
    assert signed_url(AccessKey("AK", "hush", "eu-x"), "GET", url, at=at, seconds=300) == theirs


async def test_ensure_bucket_may_be_called_by_many(s3_server: Any, s3_bucket: str) -> None:
    store = connect(s3_server, f"{s3_bucket}-x")
    await asyncio.gather(*(store.ensure_bucket() for _ in range(4)))
    assert await store.put("a", b"1")
    await store.close()


async def test_wrong_keys_are_forbidden(s3_server: Any, s3_bucket: str) -> None:
    store = connect(s3_server, s3_bucket, secret_key="wrong" * 4)
    for call in (store.get("a"), store.put("a", b""), store.ensure_bucket()):
        with pytest.raises(Forbidden):
            await call
    await store.close()


async def test_a_missing_bucket_is_not_found(s3_server: Any) -> None:
    store = connect(s3_server, "no-such-bucket")
    with pytest.raises(NotFound):
        await store.get("a")
    with pytest.raises(NotFound):
        [info async for info in store.list("a/")]
    await store.close()


async def test_a_dead_endpoint_is_unavailable(s3_server: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = connect(s3_server, "b-u-c", endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", retries=1)
        for call in (store.get("a"), store.put("a", b""), store.head("a"), store.ensure_bucket()):
            with pytest.raises(Unavailable):
                await call
        await store.close()


async def test_a_silent_endpoint_ends_by_the_deadline(s3_server: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        patient = connect(s3_server, "b-u-c", endpoint=endpoint, timeout=5, deadline=0.3, retries=0)
        with pytest.raises(DeadlineExceeded):
            await patient.get("a")
        await patient.close()
        hasty = connect(s3_server, "b-u-c", endpoint=endpoint, timeout=0.3, deadline=20, retries=0)
        with pytest.raises(DeadlineExceeded):
            await hasty.get("a")
        await hasty.close()


async def test_folders_are_listed_without_what_lies_in_them(store: S3ObjectStore) -> None:
    for key in ("one/a/b", "one/a-b/c", "one/file", "two/x/y/z", "top"):
        await store.put(key, b"")
    assert await store.folders("") == ["one", "two"]
    assert await store.folders("one/") == ["a", "a-b"]
    assert await store.folders("two/") == ["x"]
    assert await store.folders("none/") == []
