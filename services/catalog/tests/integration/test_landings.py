"""Landings over HTTP: files whole and in parts, resumed and repeated, and what is refused, on real servers."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from catalog.application.landings import PART_BYTES
from catalog.application.old_landings import OldLandings
from millrace.errors import NotFound

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
BIG = random.Random(8).randbytes(2 * PART_BYTES + 12_345)


async def call(gateway: Any, method: str, path: str, status: int, **more: Any) -> Any:
    answer = await gateway.call(method, f"/v1/landings{path}", who=more.pop("who", "contributor"), **more)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


@pytest.fixture
async def landing(gateway: Any) -> str:
    await gateway.parts.store.ensure_bucket()
    begun = await call(gateway, "POST", "", 201)
    assert begun["part_bytes"] == PART_BYTES
    return str(begun["landing"])


async def send(gateway: Any, landing: str, path: str, data: bytes, order: list[int] | None = None) -> Any:
    """Send a file in parts, and return what joins them."""
    begun = await call(gateway, "POST", f"/{landing}/parts/{path}", 201)
    pieces = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    parts = []
    for number in order or range(1, len(pieces) + 1):
        params = {"upload": begun["upload"], "number": number}
        parts.append(
            await call(gateway, "PUT", f"/{landing}/parts/{path}", 200, params=params, content=pieces[number - 1])
        )
    unique = {part["number"]: part for part in parts}
    return {"upload": begun["upload"], "size": len(data), "parts": [unique[number] for number in sorted(unique)]}


async def lies(gateway: Any, landing: str, path: str) -> bytes:
    found: bytes = await gateway.parts.store.get(f"default/landing/upload-{landing}/{path}")
    return found


async def test_small_files_are_put_whole_and_large_ones_in_parts(gateway: Any, landing: str) -> None:
    await call(gateway, "PUT", f"/{landing}/files/a/%C3%A9%20b.txt", 204, content=b"first")
    await call(gateway, "PUT", f"/{landing}/files/a/%C3%A9%20b.txt", 204, content=b"hello")
    await call(gateway, "PUT", f"/{landing}/files/empty", 204, content=b"")
    assert await lies(gateway, landing, "a/é b.txt") == b"hello"
    joined = await send(gateway, landing, "big.bin", BIG, order=[3, 1, 1, 2])
    await call(gateway, "POST", f"/{landing}/files/big.bin", 204, json=joined)
    await call(gateway, "POST", f"/{landing}/files/big.bin", 204, json=joined)
    assert await lies(gateway, landing, "big.bin") == BIG
    body = {"dataset": "photos", "files": 3, "bytes": 5 + len(BIG), "message": "by hand"}
    operation = await call(gateway, "POST", f"/{landing}", 202, json=body)
    assert (operation["state"], operation["dataset"], operation["id"]) == ("accepted", "photos", landing)
    assert (await call(gateway, "POST", f"/{landing}", 202, json=body))["operation"] == operation["operation"]
    await gateway.settle()
    events = await gateway.call("GET", "/v1/events", params={"type": "data.landed"})
    data = [item["event"]["data"] for item in events.json()["items"]]
    assert len(data) == 1
    assert data[0]["uri"].endswith(f"/default/landing/upload-{landing}/")
    assert (data[0]["mode"], data[0]["format"], data[0]["message"]) == ("append", "files", "by hand")


async def test_a_landing_is_closed_only_if_everything_lies_there(gateway: Any, landing: str) -> None:
    await call(gateway, "PUT", f"/{landing}/files/a", 204, content=b"12345")
    for files, size in ((2, 5), (1, 6)):
        answer = await call(gateway, "POST", f"/{landing}", 409, json={"dataset": "x", "files": files, "bytes": size})
        assert answer["code"] == "landing-incomplete"
    archive = {"dataset": "x", "files": 1, "bytes": 5, "archive": "a"}
    operation = await call(gateway, "POST", f"/{landing}", 202, json=archive)
    assert operation["dataset"] == "x"


async def test_an_upload_that_was_given_up_or_is_short_leaves_nothing(gateway: Any, landing: str) -> None:
    joined = await send(gateway, landing, "gone", BIG)
    for _ in range(2):
        await call(gateway, "DELETE", f"/{landing}/parts/gone", 204, params={"upload": joined["upload"]})
    await call(gateway, "POST", f"/{landing}/files/gone", 404, json=joined)
    short = await send(gateway, landing, "short", BIG)
    answer = await call(gateway, "POST", f"/{landing}/files/short", 400, json={**short, "size": len(BIG) + 1})
    assert "bytes together" in answer["detail"]
    answer = await call(gateway, "POST", f"/{landing}", 409, json={"dataset": "x", "files": 1, "bytes": 1})
    assert answer["detail"].startswith("0 files")


async def test_a_body_of_another_length_is_refused(gateway: Any, landing: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"123"

    for length in ("2", "4"):
        await call(gateway, "PUT", f"/{landing}/files/a", 400, content=body(), headers={"content-length": length})
    await call(gateway, "PUT", f"/{landing}/files/a", 400, content=body())


@pytest.mark.parametrize("path", ["../a", "%2e%2e/a", "a//b", "%00", "a%5Cb", "a%0Ab", "x" * 256, "/a", "_READY/x"])
async def test_names_that_no_version_holds_are_refused(gateway: Any, landing: str, path: str) -> None:
    for method, place, more in (
        ("PUT", "files", {"content": b"x"}),
        ("POST", "parts", {}),
        ("PUT", "parts", {"content": b"x", "params": {"upload": "u", "number": 1}}),
    ):
        answer = await gateway.call(method, f"/v1/landings/{landing}/{place}/{path}", **more)
        assert answer.status_code in {400, 404, 405}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


async def test_wrong_parts_and_strangers_are_refused(gateway: Any, landing: str) -> None:
    at = f"/{landing}/parts/a"
    await call(gateway, "PUT", at, 404, params={"upload": "0" * 32, "number": 1}, content=b"x")
    for params in ({"upload": "u", "number": 0}, {"upload": "u", "number": 10_001}, {"upload": "<", "number": 1}, {}):
        await call(gateway, "PUT", at, 400, params=params, content=b"x")
    tag = {"number": 2, "tag": "abc"}
    for body in ({}, {"upload": "u", "size": 1, "parts": []}, {"upload": "u", "size": 1, "parts": [tag]}):
        await call(gateway, "POST", f"/{landing}/files/a", 400, json=body)
    await call(gateway, "PUT", "/not-a-landing/files/a", 400, content=b"x")
    await call(gateway, "PUT", f"/{landing}/files/a", 403, content=b"x", who="viewer")
    await call(gateway, "POST", "", 401, who=None)
    await call(gateway, "PUT", f"/{landing}/files/a", 404, content=b"x", who="foreigner")
    close = {"dataset": "x", "files": 1, "bytes": 1}
    for wrong in (
        {"dataset": "X y"},
        {"files": 0},
        {"archive": "../a"},
        {"archive": "a", "files": 2},
        {"mode": "merge"},
    ):
        await call(gateway, "POST", f"/{landing}", 400, json={**close, **wrong})


async def test_a_landing_that_nobody_closed_is_taken_away_and_nothing_else(gateway: Any, landing: str) -> None:
    store, catalog, zone = gateway.parts.store, gateway.parts.catalog, gateway.parts.zone
    await call(gateway, "PUT", f"/{landing}/files/a/b.txt", 204, content=b"left")
    begun = await call(gateway, "POST", f"/{landing}/parts/a%20%26%20c.bin", 201)
    params = {"upload": begun["upload"], "number": 1}
    await call(gateway, "PUT", f"/{landing}/parts/a%20%26%20c.bin", 200, params=params, content=b"x" * 1000)
    only_parts = (await call(gateway, "POST", "", 201))["landing"]
    await call(gateway, "POST", f"/{only_parts}/parts/d.bin", 201)
    closed = (await call(gateway, "POST", "", 201))["landing"]
    await call(gateway, "PUT", f"/{closed}/files/a", 204, content=b"12")
    await call(gateway, "POST", f"/{closed}", 202, json={"dataset": "photos", "files": 1, "bytes": 2})
    announced = (await call(gateway, "POST", "", 201))["landing"]
    await call(gateway, "PUT", f"/{announced}/files/a", 204, content=b"34")
    uri = zone.uri(f"default/landing/upload-{announced}/")
    event = {"specversion": "1.0", "id": "1", "source": "/etl", "type": "data.landed", "time": "2026-01-01T00:00:00Z"}
    headers = {"content-type": "application/cloudevents+json"}
    content = json.dumps({**event, "data": {"dataset": "photos", "uri": uri}})
    accepted = await gateway.call("POST", "/v1/events", content=content, headers=headers)
    assert accepted.status_code == 202, accepted.text
    others = ("default/landing/nightly/a", f"default/landing/upload-{landing}x/a", "default/landing/upload-mine/a")
    for key in (*others, "Odd/landing/upload-x/a", "default/packs/x"):
        await store.put(key, b"mine")

    await OldLandings(catalog.documents, zone, catalog.clock, age=timedelta(days=1)).step()
    assert await lies(gateway, landing, "a/b.txt") == b"left"
    assert len([piece async for piece in zone.pieces(f"default/landing/upload-{landing}/")]) == 2

    old = OldLandings(catalog.documents, zone, catalog.clock, age=timedelta(days=-1))
    assert await old.step() == 3
    assert await old.step() == 0
    for gone in (landing, only_parts):
        assert [piece async for piece in zone.pieces(f"default/landing/upload-{gone}/")] == []
    assert (await lies(gateway, closed, "a"), await lies(gateway, announced, "a")) == (b"12", b"34")
    for key in (*others, "Odd/landing/upload-x/a", "default/packs/x"):
        assert await store.get(key) == b"mine"


async def ended(gateway: Any, state: str) -> str:
    """Put a landing of one file, close it, and let its ingest stand at `state`; return its id."""
    landing = (await call(gateway, "POST", "", 201))["landing"]
    await call(gateway, "PUT", f"/{landing}/files/a", 204, content=b"12")
    close = {"dataset": "photos", "files": 1, "bytes": 2}
    operation = (await call(gateway, "POST", f"/{landing}", 202, json=close))["operation"]

    async def end(*, uow: Any) -> None:
        found = await uow.operations.get(operation)
        await uow.operations.save(replace(found, state=state))

    await gateway.parts.catalog.in_unit(end)
    return str(landing)


async def test_a_landing_whose_ingest_has_ended_goes_once_it_is_old(gateway: Any) -> None:
    await gateway.parts.store.ensure_bucket()
    catalog, zone = gateway.parts.catalog, gateway.parts.zone
    ids = {state: await ended(gateway, state) for state in ("accepted", "running", "completed", "failed")}
    shared = await ended(gateway, "completed")
    uri = zone.uri(f"default/landing/upload-{shared}/")
    event = {"specversion": "1.0", "id": "1", "source": "/etl", "type": "data.landed", "time": "2026-01-01T00:00:00Z"}
    headers = {"content-type": "application/cloudevents+json"}
    content = json.dumps({**event, "data": {"dataset": "others", "uri": uri}})
    assert (await gateway.call("POST", "/v1/events", content=content, headers=headers)).status_code == 202

    assert await OldLandings(catalog.documents, zone, catalog.clock, age=timedelta(days=1)).step() == 0
    assert await OldLandings(catalog.documents, zone, catalog.clock, age=timedelta(days=-1)).step() == 2

    for landing in (ids["accepted"], ids["running"], shared):
        assert await lies(gateway, landing, "a") == b"12"
    for landing in (ids["completed"], ids["failed"]):
        with pytest.raises(NotFound):
            await lies(gateway, landing, "a")


async def test_an_encrypted_project_keeps_no_landing_that_became_a_version(gateway: Any) -> None:
    await gateway.parts.store.ensure_bucket()
    assert (await gateway.call("PUT", "/v1/encryption")).status_code == 201
    catalog = gateway.parts.catalog
    ids = {state: await ended(gateway, state) for state in ("completed", "running", "failed")}
    assert await OldLandings(catalog.documents, gateway.parts.zone, catalog.clock, age=timedelta(days=7)).step() == 1
    assert await lies(gateway, ids["running"], "a") == await lies(gateway, ids["failed"], "a") == b"12"
    with pytest.raises(NotFound):
        await lies(gateway, ids["completed"], "a")


async def test_rounds_are_bounded_and_go_on(gateway: Any, monkeypatch: Any) -> None:
    await gateway.parts.store.ensure_bucket()
    monkeypatch.setattr("catalog.application.old_landings.LOOKED_AT", 2)
    monkeypatch.setattr("catalog.application.old_landings.TAKEN", 3)
    for _ in range(3):
        landing = (await call(gateway, "POST", "", 201))["landing"]
        for name in "ab":
            await call(gateway, "PUT", f"/{landing}/files/{name}", 204, content=b"1")
    catalog = gateway.parts.catalog
    old = OldLandings(catalog.documents, gateway.parts.zone, catalog.clock, age=timedelta(days=-1))
    assert [await old.step() for _ in range(4)] == [3, 3, 0, 0]
