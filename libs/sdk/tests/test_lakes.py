"""A folder goes to each kind of lake and comes back, by presigned requests whose headers the gateway names."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.datasets import limits
from millrace.errors import Forbidden, Unavailable
from millrace.objects import Lake
from millrace.objects.azure import AzureObjectStore
from millrace.objects.gcs import GcsObjectStore
from millrace_sdk import Dataset, folder
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.folder import Config
from millrace_sdk.presigned import PresignedObjectStore

from .gateway import TOKEN, Gateway, serving

pytestmark = pytest.mark.servers
CHANCE = random.Random(5)
FILES = {f"train/{index % 3}/{index:03d}.png": CHANCE.randbytes(500) for index in range(40)}
FILES["big.bin"] = CHANCE.randbytes(limits.CHUNK + 1_000)
KEY = "default/packs/ab/" + "ab" * 32


def azure(server: Any) -> Lake:
    name = f"test-{secrets.token_hex(8)}"
    return AzureObjectStore(account=server.account, container=name, key=server.key, endpoint=server.endpoint)


def gcs(server: Any) -> Lake:
    return GcsObjectStore(
        bucket=f"test-{secrets.token_hex(8)}", key=server.key, endpoint=server.endpoint, location="EU"
    )


@pytest.fixture(params=["azure", "gcs"])
def afar(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway whose lake is not S3."""
    make = {"azure": azure, "gcs": gcs}[request.param]
    store = make(request.getfixturevalue(f"{request.param}_server"))
    asyncio.run(store.ensure_bucket())
    with serving(Gateway(store)) as running:
        monkeypatch.setenv("MILLRACE_URL", running.url)
        monkeypatch.setenv("MILLRACE_TOKEN", TOKEN)
        yield running
    asyncio.run(store.close())


def test_a_folder_goes_to_the_lake_and_comes_back(afar: Gateway, tmp_path: Path) -> None:
    root = tmp_path / "digits"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    folder.write(root, Config("digits"))
    first = folder.run(root, Config("digits"), lambda it: it.sync("first"))
    assert (first.version, first.files, first.changed) == (1, len(FILES), True)
    assert folder.run(root, Config("digits"), lambda it: it.sync("again")).uploaded_bytes == 0
    target = tmp_path / "pulled"
    folder.run(root, Config("digits"), lambda it: it.pull(1, target))
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == FILES
    with Dataset.open("digits@1") as dataset:
        assert dataset.read_range("big.bin", 1_000, 7) == FILES["big.bin"][1_000:1_007]
        assert dict(dataset.samples(seed=3)) == FILES


def test_an_object_that_came_meanwhile_is_no_error(afar: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else was quicker, or an answer was lost and the PUT was repeated."""
    late = Gateway.uploads

    async def uploads(self: Gateway, name: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await late(self, name, body)
        await self.lake.put(KEY, b"somebody else's")
        return answer

    monkeypatch.setattr(Gateway, "uploads", uploads)
    slow = Gateway(afar.store)
    with serving(slow):
        monkeypatch.setenv("MILLRACE_URL", slow.url)
        assert put() is False
    assert asyncio.run(afar.lake.get(KEY)) == b"somebody else's"


def test_a_gateway_that_says_nothing_of_headers_has_a_lake_on_s3(lakeside: Gateway) -> None:
    lakeside.tells_headers = False
    assert put() is True
    assert put() is False


def test_a_refused_url_is_said_to_be_refused(lakeside: Gateway) -> None:
    """As 403 may also mean that an object exists, the gateway is asked; it says that there is none."""
    lakeside.answers[("POST", "/v1/datasets/digits/uploads")] = {
        "items": [{"url": f"{lakeside.store.endpoint}/{lakeside.store.bucket}/{KEY}", "headers": {}}],  # type: ignore[attr-defined]
        "next": None,
    }
    with pytest.raises(Forbidden):
        put()


@pytest.mark.parametrize("headers", [["a"], {"a": 1}, {"x\r\nhost": "b"}, {"a": "b\nc: d"}, {"ä": "b"}, "text"])
def test_headers_that_cannot_be_are_refused(gateway: Gateway, headers: Any) -> None:
    item = {"url": "http://127.0.0.1:9/never-asked", "headers": headers}
    gateway.answers[("POST", "/v1/datasets/digits/uploads")] = {"items": [item], "next": None}
    with pytest.raises(Unavailable, match="headers"):
        put()


def put() -> bool:
    async def main() -> bool:
        async with AsyncCatalog(patience=0.1) as catalog:
            store = PresignedObjectStore(catalog, "digits")
            try:
                return await store.put(KEY, b"0123456789", create_only=True)
            finally:
                await store.aclose()

    return asyncio.run(main())
