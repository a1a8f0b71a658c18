"""An encrypted project on real servers: every door reads it, and its bucket gives nothing away."""

from __future__ import annotations

import asyncio
import io
import secrets
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from pydicom.data import get_testdata_file

from catalog.adapters.master_keys import MasterKeys
from catalog.application.fsck.check import check
from catalog.application.sweeping import Collector
from millrace.datasets.keys import manifest_key
from millrace.datasets.limits import CHUNK
from millrace.datasets.push import push
from millrace.documents.migrations import migrate
from millrace.records import Record
from millrace.records.stored import save_records
from millrace.records.table import RecordTable
from millrace.sealing import ProjectKey, SealedStore

from .test_garbage import Fast

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]
PATIENT = "Mustermann-Erika-19430117"
BIG = secrets.token_bytes(CHUNK + 1_000)
SLICE = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
FILES = {f"{PATIENT}/note.txt": PATIENT.encode() * 40, f"{PATIENT}/scan.dcm": SLICE, "big.bin": BIG}
BASE = "/v1/datasets/wards/versions/1"


async def _commit(gateway: Any, files: dict[str, bytes], parent: str | None = None) -> dict[str, Any]:
    folder = gateway.folder / secrets.token_hex(8)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    store = gateway.parts.sealed
    pushed = await push(folder, store, project="default")
    rows = [
        Record(entry.path, "Binary", entry.path, entry.size, entry.hex, "text/plain")
        for entry in pushed.manifest.entries()
    ]
    records = await save_records(store, "default", RecordTable.of(rows))
    answer = await gateway.commit(pushed, parent, dataset="wards", records=records)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def version(gateway: Any) -> dict[str, Any]:
    assert (await gateway.call("PUT", "/v1/encryption")).status_code == 201
    await gateway.call("PUT", "/v1/datasets/wards", json={})
    return await _commit(gateway, FILES)


async def _bucket(gateway: Any) -> dict[str, bytes]:
    store = gateway.parts.store
    return {info.key: await store.get(info.key) async for info in store.list("")}


async def test_every_door_reads_it(gateway: Any, version: dict[str, Any]) -> None:
    for path, data in FILES.items():
        assert (await gateway.call("GET", f"{BASE}/files/{path}", who="viewer")).content == data
    part = {"range": f"bytes={CHUNK - 5}-{CHUNK + 4}"}
    assert (await gateway.call("GET", f"{BASE}/files/big.bin", headers=part)).content == BIG[CHUNK - 5 : CHUNK + 5]
    archive = zipfile.ZipFile(io.BytesIO((await gateway.call("GET", f"{BASE}/archive.zip")).content))
    assert {name: archive.read(name) for name in archive.namelist()} == FILES
    picture = await gateway.call("GET", f"{BASE}/preview/{PATIENT}/scan.dcm")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    tree = (await gateway.call("GET", f"{BASE}/tree")).json()
    assert PATIENT in str(tree)
    records = (await gateway.call("GET", f"{BASE}/records")).json()["items"]
    assert {item["path"] for item in records} == set(FILES)
    second = await _commit(gateway, {"new.txt": b"new"}, version["commit"])
    found = (await gateway.call("GET", "/v1/datasets/wards/diff?from=1&to=2")).json()
    assert (second["version"], found["added"]["files"]) == (2, 1)
    checks = {"checks": [{"name": "some", "count": {"min": 1}}]}
    assert (await gateway.call("POST", f"{BASE}/checks", json=checks)).status_code in {200, 400, 422}
    catalog = gateway.parts.catalog
    report = await check(documents=catalog.documents, lake=catalog.lake, clock=catalog.clock)
    assert [item for item in report["violations"] if item["invariant"] == "I2"] == []


async def test_the_bucket_gives_nothing_away(gateway: Any, version: dict[str, Any]) -> None:
    key = await gateway.parts.sealed._ring.key_of("default")
    stored = await _bucket(gateway)
    kinds = {name.split("/")[2] for name in stored}
    assert kinds == {"packs", "chunks", "manifests", "commits", "records"}
    known = [blake3(data) for data in FILES.values()]
    planted = [PATIENT.encode(), key.secret, key.text.encode(), *(it.digest() for it in known)]
    planted += [it.hexdigest().encode() for it in known]
    planted += [version[name].encode() for name in ("commit", "manifest", "tree_root", "records")]
    for name, data in stored.items():
        assert name.startswith("default/sealed/"), name
        for secret in planted:
            assert secret not in data
            assert secret not in name.encode()


async def test_what_the_lake_lost_is_made_again(gateway: Any, version: dict[str, Any]) -> None:
    sealed = gateway.parts.sealed
    await sealed.delete(manifest_key("default", version["manifest"]))
    assert await sealed.head(manifest_key("default", version["manifest"])) is None
    answer = (await gateway.call("POST", "/v1/datasets/wards/rebuild")).json()
    assert answer["manifests"] == [version["manifest"]]
    assert (await gateway.call("GET", f"{BASE}/files/big.bin")).content == BIG


async def test_garbage_is_found_and_swept(gateway: Any, version: dict[str, Any]) -> None:
    catalog = gateway.parts.catalog
    catalog.collection_grace = timedelta(seconds=-5)
    await _commit(gateway, {"kept.txt": b"kept"}, version["commit"])
    before = set(await _bucket(gateway))
    assert (await gateway.call("DELETE", f"{BASE}?reason=consent")).status_code == 200
    plan = (await gateway.call("GET", "/v1/gc")).json()["plan"]
    assert set(plan["kinds"]) == {"packs", "chunks", "manifests", "commits", "records"}
    assert plan["kinds"]["chunks"]["bytes"] == len(BIG)
    assert (await gateway.call("POST", "/v1/gc")).status_code == 202
    clock = Fast(catalog.clock)
    collector = Collector(catalog.documents, catalog.transact, catalog.lake, clock, settle=120)
    for _ in range(4):
        await collector.step()
        await clock.sleep(200)
    gone = before - set(await _bucket(gateway))
    assert len(gone) == plan["objects"]
    assert (await gateway.call("GET", "/v1/datasets/wards/versions/2/files/kept.txt")).content == b"kept"


async def test_uploads_are_sealed_or_refused(gateway: Any, version: dict[str, Any]) -> None:
    body: dict[str, Any] = {"objects": [{"kind": "chunks", "id": "0" * 64}]}
    path = "/v1/datasets/wards/uploads"
    refused = await gateway.call("POST", path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "not-sealed-so")
    state = (await gateway.call("GET", "/v1/encryption")).json()
    answer = (await gateway.call("POST", path, json={**body, "sealed": state["key_id"]})).json()
    assert answer["sealed"] == state["key_id"]
    assert "0" * 64 not in answer["items"][0]["url"]
    wanted = {"objects": [{"kind": "manifests", "id": version["manifest"]}]}
    found = (await gateway.call("POST", f"{BASE}/downloads", json=wanted)).json()
    assert found["sealed"] == state["key_id"]
    assert version["manifest"] not in found["items"][0]["url"]


async def test_who_gets_the_key(gateway: Any) -> None:
    path = "/v1/encryption/key"
    assert (await gateway.call("GET", path)).status_code == 404
    assert (await gateway.call("PUT", "/v1/encryption", who="contributor")).status_code == 403
    first = await gateway.call("PUT", "/v1/encryption")
    again = await gateway.call("PUT", "/v1/encryption")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["key_id"] == again.json()["key_id"]
    for who in ("viewer", "contributor", "owner", "service-ingest"):
        answer = await gateway.call("GET", path, who=who)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert ProjectKey.from_text("default", answer.json()["key"]).id == first.json()["key_id"]
    for who, status in (
        ("service-trainer", 403),
        ("service-serving", 403),
        ("etl", 403),
        ("foreigner", 404),
        (None, 401),
    ):
        assert (await gateway.call("GET", path, who=who)).status_code == status
    shown = str([(await gateway.call("GET", door)).text for door in ("/v1/encryption", "/v1/events", "/v1/datasets")])
    assert answer.json()["key"] not in shown
    rows = await gateway.parts.catalog.documents.trail.find({"action": "project.key"}, limit=10)
    assert sorted(row.principal for row in rows) == ["contributor", "owner", "service-ingest", "viewer"]


async def test_a_project_with_datasets_stays_as_it_is(gateway: Any) -> None:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    refused = await gateway.call("PUT", "/v1/encryption")
    assert (refused.status_code, refused.json()["code"]) == (409, "already-in-clear")
    assert "fresh project" in refused.json()["hint"]
    assert (await gateway.call("GET", "/v1/encryption")).json()["settled"] is True
    assert (await gateway.call("PUT", "/v1/encryption", params={"project": "fresh"})).status_code == 201


async def test_encryption_and_first_datasets_race_and_one_wins(gateway: Any) -> None:
    for number in range(6):
        here = {"project": f"race-{number}"}
        makers = [gateway.call("PUT", f"/v1/datasets/d{index}", json={}, params=here) for index in range(4)]
        answers = await asyncio.gather(gateway.call("PUT", "/v1/encryption", params=here), *makers)
        assert {answer.status_code for answer in answers[1:]} == {201}
        encrypted = (await gateway.call("GET", "/v1/encryption", params=here)).json()["encrypted"]
        assert answers[0].status_code == (201 if encrypted else 409)


async def test_the_wrong_master_key_is_said_and_breaks_nothing_else(
    gateway: Any, version: dict[str, Any], parts: Any
) -> None:
    catalog = parts.catalog
    other = MasterKeys([secrets.token_bytes(32)])
    catalog.keys._keys, catalog.keys._first = dict(other._keys), other._first
    parts.sealed._ring._known.clear()
    for method, door in (("GET", f"{BASE}/files/{PATIENT}/note.txt"), ("GET", "/v1/encryption/key"), ("GET", "/v1/gc")):
        answer = await gateway.call(method, door)
        assert (answer.status_code, answer.json()["code"]) == (409, "key-locked"), door
        assert "MILLRACE_CATALOG_MASTER_KEY_FILE" in answer.json()["hint"]
        assert answer.json()["transient"] is False
    assert (await gateway.call("GET", "/v1/encryption")).json()["encrypted"] is True
    clear = {"project": "clear"}
    await gateway.call("PUT", "/v1/datasets/digits", json={}, params=clear)
    assert (await gateway.call("GET", "/v1/datasets/digits", params=clear)).status_code == 200
    report = await check(documents=catalog.documents, lake=catalog.lake, clock=catalog.clock)
    assert any("master key" in item["what"] for item in report["violations"])


async def test_old_projects_with_datasets_are_settled_by_the_migration(gateway: Any, parts: Any) -> None:
    from catalog.adapters.schema import MIGRATIONS

    await gateway.call("PUT", "/v1/datasets/digits", json={})
    database = parts.transactor.database
    await database["encryptions"].delete_many({})
    await MIGRATIONS[2].apply(database)
    await MIGRATIONS[2].apply(database)
    state = (await gateway.call("GET", "/v1/encryption")).json()
    assert (state["encrypted"], state["settled"], state["settled_by"]) == (False, True, "installation")
    assert await migrate(database, MIGRATIONS, clock=parts.clock) == []


async def test_the_console_says_so(gateway: Any) -> None:
    async with gateway.client(None, follow_redirects=True) as client:
        client.headers["origin"] = "http://gateway"
        await client.post("/console/login", data={"token": gateway.tokens["owner"]})
        page = await client.get("/console/datasets")
        assert "Encrypt this project" in page.text
        pressed = await client.post("/console/encryption", headers={"hx-request": "true"})
        assert (pressed.status_code, pressed.headers["hx-redirect"]) == (204, "/console/datasets")
        page = await client.get("/console/datasets")
        assert "Encrypted there with the project" in page.text
        assert "Encrypt this project" not in page.text


async def test_another_store_over_the_bucket_needs_the_key(gateway: Any, version: dict[str, Any]) -> None:
    class Wrong:
        async def key_of(self, project: str) -> ProjectKey:
            return ProjectKey.new(project)

    store = SealedStore(gateway.parts.store, Wrong())
    assert [info async for info in store.list("default/")] == []
    assert await store.head(manifest_key("default", version["manifest"])) is None
