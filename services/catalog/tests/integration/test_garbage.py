"""Removing, collecting and rebuilding on real servers: nothing that a version needs is ever lost."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from catalog.application.sweeping import Collector
from millrace.datasets.keys import commit_key, manifest_key, pack_key

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
SETTLE = 120


class Fast:
    """A clock whose seconds pass when they are asked to."""

    def __init__(self, clock) -> None:
        self._clock = clock
        self.passed = 0.0

    def now(self):
        return self._clock.now()

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds


async def _versions(gateway, *contents: bytes) -> list[dict]:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    made, parent = [], None
    for content in contents:
        answer = await gateway.commit(await gateway.push(a=content, same=b"same"), parent)
        made.append(answer.json())
        parent = made[-1]["commit"]
    return made


def _collector(gateway) -> tuple[Collector, Fast]:
    catalog = gateway.parts.catalog
    clock = Fast(catalog.clock)
    return Collector(catalog.documents, catalog.transact, catalog.lake, clock, settle=SETTLE), clock


def _everything_at_once(gateway) -> None:
    """Let the grace be over for what exists already."""
    gateway.parts.catalog.collection_grace = timedelta(seconds=-5)


async def test_removed_is_gone_by_every_door_and_comes_back(gateway) -> None:
    first, second = await _versions(gateway, b"1", b"2")
    path = "/v1/datasets/digits/versions/1"
    assert (await gateway.call("DELETE", path, who="contributor")).status_code == 403
    assert (await gateway.call("DELETE", "/v1/datasets/digits/versions/2")).json()["code"] == "still-the-head"
    assert (await gateway.call("DELETE", f"{path}?reason=%00")).status_code in {400, 422}
    answer = await gateway.call("DELETE", f"{path}?reason=consent")
    assert (answer.status_code, answer.json()["removed"]["reason"]) == (200, "consent")
    for door in (path, f"{path}/files/a.txt", f"/v1/datasets/digits/versions/{first['commit']}"):
        assert (await gateway.call("GET", door)).status_code == 410
    body = {"objects": [{"kind": "manifests", "id": first["manifest"]}]}
    assert (await gateway.call("POST", f"{path}/downloads", json=body)).status_code == 410
    run = {"dataset": "digits", "version": 1, "component": "classifier", "experiment": "e"}
    assert (await gateway.call("POST", "/v1/runs", json=run)).status_code in {400, 410, 422}
    listed = (await gateway.call("GET", "/v1/datasets/digits/versions")).json()["items"]
    assert [item["version"] for item in listed] == [2]
    listed = (await gateway.call("GET", "/v1/datasets/digits/versions?removed=true")).json()["items"]
    assert [item["version"] for item in listed] == [2, 1]
    assert (await gateway.call("POST", f"{path}/restore")).json()["removed"] is None
    assert (await gateway.call("GET", path)).status_code == 200
    assert second["version"] == 2


async def test_a_collection_takes_what_was_removed_and_nothing_else(gateway) -> None:
    first, second = await _versions(gateway, b"1", b"2")
    await gateway.call("DELETE", "/v1/datasets/digits/versions/1")
    dry = (await gateway.call("GET", "/v1/gc")).json()
    assert (dry["plan"]["objects"], dry["collection"]) == (0, None)
    _everything_at_once(gateway)
    dry = (await gateway.call("GET", "/v1/gc")).json()
    assert dry["plan"]["kinds"].keys() == {"commits", "manifests", "packs"}
    assert (await gateway.call("POST", "/v1/gc", who="contributor")).status_code == 403
    assert (await gateway.call("POST", "/v1/gc")).status_code == 202
    collector, clock = _collector(gateway)
    await collector.step()
    assert (await gateway.call("GET", "/v1/gc")).json()["collection"]["state"] == "waiting"
    clock.passed += SETTLE + 1
    await collector.step()
    done = (await gateway.call("GET", "/v1/gc")).json()["collection"]
    assert (done["state"], done["swept"]["objects"]) == ("done", dry["plan"]["objects"])
    store = gateway.parts.store
    assert await store.head(manifest_key("default", first["manifest"])) is None
    assert await store.head(manifest_key("default", second["manifest"])) is not None
    assert (await gateway.call("POST", "/v1/datasets/digits/versions/1/restore")).json()["code"] == "name-taken"
    await gateway.settle()
    fsck = (await gateway.call("GET", "/v1/fsck")).json()
    assert [it for it in fsck["violations"] if it["invariant"] in {"I2", "I3", "I11"}] == []


async def test_commits_and_collections_that_race_lose_nothing(gateway) -> None:
    """Trees come and go and come back while two processes collect as fast as they can."""
    await _versions(gateway, b"0")
    _everything_at_once(gateway)
    store = gateway.parts.store
    collectors = [_collector(gateway), _collector(gateway)]
    stop, ended = asyncio.Event(), 0

    async def collect(collector: Collector, clock: Fast) -> None:
        while not stop.is_set():
            await gateway.call("POST", "/v1/gc")
            await collector.step()
            before = ended
            while ended == before and not stop.is_set():  # what `settle` stands for: a commit under way has ended
                await asyncio.sleep(0.005)
            clock.passed += SETTLE + 1

    async def commit() -> None:
        nonlocal ended
        rng = random.Random(5)
        for _ in range(40):
            parent = (await gateway.call("GET", "/v1/datasets/digits")).json()["head"]
            for _ in range(20):
                pushed = await gateway.push(a=b"%d" % rng.randrange(4), same=b"same")
                answer = await gateway.commit(pushed, parent["commit"])
                ended += 1
                if answer.status_code in {200, 201}:
                    break
                assert answer.json()["code"] == "object-missing", answer.text
            assert answer.status_code in {200, 201}
            await gateway.call("DELETE", f"/v1/datasets/digits/versions/{parent['version']}")
        stop.set()

    await asyncio.gather(commit(), *(collect(*one) for one in collectors))
    head = (await gateway.call("GET", "/v1/datasets/digits/versions/latest")).json()
    for kind, name in await gateway.parts.catalog.lake.objects_of("default", head["manifest"]):
        key = manifest_key("default", name) if kind == "manifests" else pack_key("default", name)
        assert await store.head(key) is not None
    swept = (await gateway.call("GET", "/v1/gc")).json()["collection"]["swept"]["objects"]
    assert swept or await gateway.parts.catalog.documents.trail.count({"action": "lake.collect"}) > 1


async def test_lost_and_damaged_manifests_and_commits_are_made_again(gateway) -> None:
    first, second = await _versions(gateway, b"1", b"2")
    store = gateway.parts.store
    assert (await gateway.call("POST", "/v1/datasets/digits/rebuild")).json() == {
        "versions": 2,
        "manifests": [],
        "commits": [],
        "lost": [],
    }
    keys = [manifest_key("default", first["manifest"]), manifest_key("default", second["manifest"])]
    keys += [commit_key("default", first["commit"]), commit_key("default", second["commit"])]
    kept = {key: await store.get(key) for key in keys}
    for key in keys[::2]:
        await store.delete(key)
    for key in keys[1::2]:
        await store.put(key, b"x" + kept[key][1:])
    made = (await gateway.call("POST", "/v1/datasets/digits/rebuild")).json()
    assert made["manifests"] == sorted([first["manifest"], second["manifest"]])
    assert sorted(made["commits"]) == sorted([first["commit"], second["commit"]])
    assert made["lost"] == []
    assert {key: await store.get(key) for key in keys} == kept


async def test_what_cannot_be_made_again_is_named(gateway) -> None:
    (first,) = await _versions(gateway, b"1")
    store = gateway.parts.store
    contents = await gateway.parts.catalog.lake.contents("default", first["manifest"])
    for pack in contents.spares:
        await store.delete(pack_key("default", pack))
    await store.delete(manifest_key("default", first["manifest"]))
    made = (await gateway.call("POST", "/v1/datasets/digits/rebuild")).json()
    assert made["lost"] == [{"version": 1, "kind": "manifest", "id": first["manifest"]}]
