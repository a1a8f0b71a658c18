"""Google Cloud Storage on fake-gcs-server, behind the door that adds what the emulator lacks of the XML interface.

Not tried here, because the emulator has it not: XML multipart uploads, `Content-MD5`, Google's OAuth.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from obstore.store import GCSStore

from millrace.errors import Forbidden, Invalid, NotFound
from millrace.objects import ObjectStore, probe
from millrace.objects.gcs import GcsObjectStore
from millrace.objects.gcs_signing import ServiceAccount
from millrace.objects.v4_signing import object_url, signed_url
from millrace.testing.object_store_contract import ODD_KEYS, ObjectStoreContract

pytestmark = pytest.mark.servers
SOON = timedelta(minutes=5)


def connect(server: Any, bucket: str, **overrides: Any) -> GcsObjectStore:
    options = {"bucket": bucket, "key": server.key, "endpoint": server.endpoint, "location": "EU"}
    return GcsObjectStore(**{**options, **overrides})


@pytest.fixture
async def store(gcs_server: Any) -> AsyncIterator[GcsObjectStore]:
    store = connect(gcs_server, f"test-{secrets.token_hex(8)}")
    await store.ensure_bucket()
    yield store
    await store.close()


class TestGcsObjectStore(ObjectStoreContract):
    async def test_the_probe_finds_what_we_need_and_cleans_up(self, store: ObjectStore) -> None:
        """As the contract says, but that the emulator checks no checksum and knows no multipart upload."""
        found = await probe(store)
        assert (found.ranges, found.create_only, found.presigned_create_only) == (True, True, True)
        assert [note.partition(":")[0] for note in found.notes] == ["checksum headers are not checked"]
        assert found.multipart_minimum == 0
        assert [info.key async for info in store.list("probe/")] == []


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_who_holds_a_url_can_create_and_not_overwrite(store: GcsObjectStore, key: str) -> None:
    put = await store.presign("PUT", key, expires=SOON)
    async with httpx.AsyncClient() as client:
        assert (await client.put(put.url, content=b"zero")).status_code == 403  # the precondition is signed, too
        assert (await client.put(put.url, content=b"one", headers=put.headers)).status_code == 200
        assert (await client.put(put.url, content=b"two", headers=put.headers)).status_code == 412
        get = await store.presign("GET", key, expires=SOON)
        answer = await client.get(get.url, headers={"Range": "bytes=1-2"})
        assert (answer.status_code, answer.content) == (206, b"ne")
        assert (await client.put(get.url, content=b"three", headers=put.headers)).status_code == 403


@pytest.mark.parametrize("key", ["p/signed key", "a/b-c_d~e", "deep/er/and/deeper"])
def test_a_url_is_signed_as_obstore_signs_it(gcs_server: Any, key: str) -> None:
    theirs = obstore.sign(GCSStore("box", config={"service_account_key": plain(gcs_server.key)}), "GET", key, SOON)
    at = datetime.strptime(parse_qs(urlsplit(theirs).query)["X-Goog-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    account = ServiceAccount.of(gcs_server.key)
    url = object_url("https://storage.googleapis.com/box", key)
    assert signed_url(account, "GET", url, at=at, seconds=300) == theirs


def plain(key: str) -> str:
    """Return the key without what keeps obstore from signing by itself."""
    return json.dumps({name: value for name, value in json.loads(key).items() if name != "disable_oauth"})


async def test_a_bucket_is_made_only_where_a_place_is_named(gcs_server: Any) -> None:
    name = f"new-{secrets.token_hex(8)}"
    homeless = connect(gcs_server, name, location=None)
    with pytest.raises(Invalid, match="there is no bucket"):
        await homeless.ensure_bucket()
    store = connect(gcs_server, name)
    await asyncio.gather(*(store.ensure_bucket() for _ in range(4)))
    await homeless.ensure_bucket()
    assert await homeless.put("a", b"1")
    await homeless.close()
    await store.close()


def pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def test_a_bucket_that_the_key_may_not_make_is_forbidden(gcs_server: Any) -> None:
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    store = connect(
        gcs_server, "strange-bucket", key=json.dumps(json.loads(gcs_server.key) | {"private_key": pem(other)})
    )
    with pytest.raises(Forbidden):
        await store.ensure_bucket()
    await store.close()


async def test_a_missing_bucket_is_not_found(gcs_server: Any) -> None:
    store = connect(gcs_server, "no-such-bucket")
    with pytest.raises(NotFound):
        await store.get("a")
    with pytest.raises(NotFound):
        [info async for info in store.list("a/")]
    await store.close()


@pytest.mark.parametrize("key", ["", "{}", "[]", "not json", '{"client_email": "a@b", "project_id": "p"}'])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(Invalid):
        GcsObjectStore(bucket="b-u-c", key=key)


def test_another_account_in_the_environment_is_said(gcs_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/nowhere.json")
    with pytest.raises(Invalid) as refused:
        connect(gcs_server, "b-u-c")
    assert "PRIVATE KEY" not in str(refused.value)


def test_a_key_of_another_kind_is_refused() -> None:
    told = {"client_email": "a@b.c", "project_id": "p", "private_key": pem(ed25519.Ed25519PrivateKey.generate())}
    with pytest.raises(Invalid):
        GcsObjectStore(bucket="b-u-c", key=json.dumps(told))
