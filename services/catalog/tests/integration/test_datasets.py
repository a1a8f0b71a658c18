"""Datasets on real servers: from a presigned upload to a version that can be downloaded."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from blake3 import blake3

from millrace.datasets.keys import pack_key

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


async def test_from_upload_to_download(gateway) -> None:
    made = await gateway.call("PUT", "/v1/datasets/digits", json={"description": "scans"})
    assert made.status_code == 201
    assert made.json()["head"] is None
    assert (await gateway.call("PUT", "/v1/datasets/digits", json={"description": "scans"})).status_code == 200
    data = b"bytes of a pack"
    body = {"objects": [{"kind": "packs", "id": blake3(data).hexdigest(), "size": len(data)}]}
    offer = (await gateway.call("POST", "/v1/datasets/digits/uploads", json=body)).json()["items"][0]
    assert offer["headers"] == {"if-none-match": "*"}
    async with httpx.AsyncClient() as outside:
        assert (await outside.put(offer["url"], content=data, headers=offer["headers"])).is_success
        assert (await outside.put(offer["url"], content=data, headers=offer["headers"])).status_code == 412
    again = (await gateway.call("POST", "/v1/datasets/digits/uploads", json=body)).json()["items"][0]
    assert (again["url"], again["headers"]) == (None, {})

    pushed = await gateway.push(a=b"one", b=b"two")
    answer = await gateway.commit(pushed, message="first", lineage={"source": "s3://lake/x"})
    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert (version["dataset"], version["version"], version["files"]) == ("digits", 1, 2)
    head = (await gateway.call("GET", "/v1/datasets/digits")).json()["head"]
    assert (head["version"], head["commit"]) == (1, version["commit"])
    wanted = {"objects": [{"kind": "packs", "id": pushed.packs[0]}, {"kind": "manifests", "id": pushed.manifest_id}]}
    urls = (await gateway.call("POST", "/v1/datasets/digits/versions/latest/downloads", json=wanted)).json()["items"]
    async with httpx.AsyncClient() as outside:
        got = await outside.get(urls[1]["url"], headers=urls[1]["headers"])
    assert blake3(got.content).hexdigest() == pushed.manifest_id
    foreign = {"objects": [{"kind": "packs", "id": blake3(data).hexdigest()}]}
    refused = await gateway.call("POST", "/v1/datasets/digits/versions/1/downloads", json=foreign)
    assert refused.status_code == 404


async def test_sixty_four_writers_race_for_one_dataset(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    trees = [await gateway.push(a=f"tree {number}".encode()) for number in range(64)]
    limit = asyncio.Semaphore(16)

    async def write(tree) -> int:
        for _ in range(500):
            async with limit:
                head = (await gateway.call("GET", "/v1/datasets/digits")).json()["head"]
                answer = await gateway.commit(tree, head["commit"] if head else None)
            if answer.status_code == 201:
                return int(answer.json()["version"])
            assert answer.status_code in (409, 503), answer.text
            await asyncio.sleep(0)
        raise AssertionError("never won")

    numbers = await asyncio.gather(*(write(tree) for tree in trees))
    assert sorted(numbers) == list(range(1, 65))
    items = (await gateway.call("GET", "/v1/datasets/digits/versions?limit=100")).json()["items"]
    assert [item["version"] for item in items] == list(range(64, 0, -1))
    assert len({item["commit"] for item in items}) == 64
    outbox = gateway.parts.transactor.database["outbox"]
    assert await outbox.count_documents({"subject": "evt.dataset.committed.v1.default"}) == 64


async def test_a_repeat_under_the_same_key_gives_the_same_version(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    pushed = await gateway.push(a=b"one")
    key = {"idempotency-key": "k-1"}
    answers = await asyncio.gather(*(gateway.commit(pushed, headers=key) for _ in range(8)))
    good = [answer.json() for answer in answers if answer.is_success]
    assert good
    assert len({answer["commit"] for answer in good}) == 1
    other = await gateway.commit(await gateway.push(a=b"two"), headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")


async def test_versions_page_and_refs(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    parent = None
    for number in range(5):
        parent = (await gateway.commit(await gateway.push(a=b"%d" % number), parent)).json()["commit"]
    first = (await gateway.call("GET", "/v1/datasets/digits/versions?limit=2")).json()
    second = (await gateway.call("GET", f"/v1/datasets/digits/versions?limit=3&after={first['next']}")).json()
    assert [item["version"] for item in first["items"] + second["items"]] == [5, 4, 3, 2, 1]
    by_prefix = await gateway.call("GET", f"/v1/datasets/digits/versions/{parent[:12]}")
    assert by_prefix.json()["version"] == 5
    assert (await gateway.call("GET", "/v1/datasets/digits/versions/99")).status_code == 404


async def test_the_head_never_moves_for_a_version_that_is_not_whole(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    pushed = await gateway.push(a=b"one")
    await gateway.parts.store.delete(pack_key("default", pushed.packs[0]))
    answer = await gateway.commit(pushed)
    assert (answer.status_code, answer.json()["code"]) == (400, "object-missing")
    assert (await gateway.call("GET", "/v1/datasets/digits")).json()["head"] is None


async def test_fsck_of_what_was_committed_is_clean(gateway) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    await gateway.commit(await gateway.push(a=b"one"))
    await gateway.settle()
    report = (await gateway.call("GET", "/v1/fsck?gather=false")).json()
    assert report["violations"] == []
    gathered = (await gateway.call("GET", "/v1/fsck")).json()
    assert {violation["service"] for violation in gathered["violations"]} == {
        "ingest", "cache-manager", "trainer", "serving", "drift-monitor",
    }  # fmt: skip
