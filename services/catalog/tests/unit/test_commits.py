"""Committing: verified, once per tree and key, whole or not at all."""

from __future__ import annotations

import asyncio

import pytest

from catalog.application.caller import Caller, KeyReused
from catalog.application.fsck.check import check
from catalog.application.versions import WantedObject, find_version, open_downloads, open_uploads
from catalog.errors import (
    ContentMismatch,
    DatasetNotFound,
    HeadMoved,
    ObjectMissing,
    RecordsMismatch,
    VersionNotFound,
)
from millrace.datasets.keys import pack_key
from millrace.errors import Invalid, NotFound


async def test_a_commit_makes_the_next_version_and_says_so(world) -> None:
    await world.dataset()
    reply = await world.commit(await world.push(a=b"one"), message="first", lineage={"source": "s3://b/x"})
    assert reply.status == 201
    assert (reply.body["version"], reply.body["parent"], reply.body["author"]) == (1, None, "anna")
    (event,) = world.events("dataset.committed")
    assert (event.sequence, event.data.commit, event.principal) == (1, reply.body["commit"], "anna")
    dataset = await world.documents.datasets.get("default/digits")
    assert (dataset.head.version, dataset.head.commit) == (1, reply.body["commit"])


async def test_the_tree_that_the_head_holds_is_no_new_version(world) -> None:
    await world.dataset()
    pushed = await world.push(a=b"one")
    first = await world.commit(pushed)
    again = await world.commit(pushed, parent=first.body["commit"])
    assert again.status == 200
    assert again.body == first.body
    assert len(world.events("dataset.committed")) == 1


async def test_a_stale_parent_is_refused(world) -> None:
    await world.dataset()
    first = await world.commit(await world.push(a=b"one"))
    await world.commit(await world.push(a=b"two"), parent=first.body["commit"])
    with pytest.raises(HeadMoved):
        await world.commit(await world.push(a=b"three"), parent=first.body["commit"])
    with pytest.raises(HeadMoved):
        await world.commit(await world.push(a=b"three"), parent=None)


async def test_an_unknown_dataset_is_not_made_by_a_commit(world) -> None:
    with pytest.raises(DatasetNotFound):
        await world.commit(await world.push(a=b"one"))


async def test_one_key_one_version_and_a_key_is_not_used_twice(world) -> None:
    await world.dataset()
    keyed = Caller("anna", "default", idempotency_key="k-1")
    pushed = await world.push(a=b"one")
    first = await world.commit(pushed, caller=keyed)
    await world.commit(await world.push(a=b"two"), parent=first.body["commit"])
    again = await world.commit(pushed, caller=keyed)
    assert (again.status, again.body) == (201, first.body)
    with pytest.raises(KeyReused):
        await world.commit(await world.push(a=b"three"), caller=keyed)


async def test_what_the_manifest_does_not_hold_is_refused(world) -> None:
    await world.dataset()
    pushed = await world.push(a=b"one")
    with pytest.raises(ContentMismatch):
        await world.commit(_claiming(pushed, files=7))
    with pytest.raises(ContentMismatch):
        await world.commit(_claiming(pushed, tree_root="0" * 64))
    assert not world.events("dataset.committed")


def _claiming(pushed, **changes):
    from dataclasses import replace

    return replace(pushed, **changes)


async def test_a_missing_pack_or_manifest_is_refused(world) -> None:
    await world.dataset()
    pushed = await world.push(a=b"one")
    await world.store.delete(pack_key("default", pushed.packs[0]))
    with pytest.raises(ObjectMissing) as caught:
        await world.commit(pushed)
    assert caught.value.context["missing"] == [pushed.packs[0]]
    with pytest.raises(ObjectMissing):
        await world.commit(_claiming(pushed, manifest_id="0" * 64))


async def test_racing_writers_get_gapless_numbers(world) -> None:
    await world.dataset()
    trees = [await world.push(a=f"{number}".encode()) for number in range(8)]

    async def write(pushed) -> int:
        while True:
            dataset = await world.documents.datasets.get("default/digits")
            parent = dataset.head.commit if dataset.head else None
            try:
                return (await world.commit(pushed, parent=parent)).body["version"]
            except HeadMoved:
                continue

    numbers = await asyncio.gather(*(write(tree) for tree in trees))
    assert sorted(numbers) == list(range(1, 9))


async def test_versions_are_found_by_number_commit_prefix_and_latest(world) -> None:
    await world.dataset()
    first = (await world.commit(await world.push(a=b"one"))).body
    second = (await world.commit(await world.push(a=b"two"), parent=first["commit"])).body

    async def number(reference: str) -> int:
        return (await find_version("default", "digits", reference, documents=world.documents)).version

    assert await number("1") == 1
    assert await number("latest") == 2
    assert await number(first["commit"]) == 1
    assert await number(second["commit"][:8]) == 2
    for missing in ("3", "0" * 8):
        with pytest.raises(VersionNotFound):
            await number(missing)


async def test_uploads_are_urls_for_what_is_missing_and_downloads_for_what_belongs(world) -> None:
    await world.dataset()
    pushed = await world.push(a=b"one")
    caller = Caller("anna", "default")
    wanted = [WantedObject("packs", pushed.packs[0]), WantedObject("packs", "0" * 64)]
    items = await open_uploads("digits", wanted, caller, documents=world.documents, lake=world.lake)
    assert items[0]["url"] is None
    assert items[1]["url"]
    await world.commit(pushed)
    version = await find_version("default", "digits", "1", documents=world.documents)
    urls = await open_downloads(version, [WantedObject("packs", pushed.packs[0])], lake=world.lake)
    assert urls[0]["url"]
    with pytest.raises(NotFound):
        await open_downloads(version, [WantedObject("packs", "0" * 64)], lake=world.lake)


async def test_fsck_is_clean_after_commits_and_notices_what_is_lost(world) -> None:
    await world.dataset()
    pushed = await world.push(a=b"one")
    first = await world.commit(pushed)
    await world.settle()
    report = await check(documents=world.documents, lake=world.lake, clock=world.clock)
    assert report["violations"] == []
    assert report["checked"] > 5
    await world.store.delete(f"default/commits/{first.body['commit']}")
    await world.store.delete(pack_key("default", pushed.packs[0]))
    report = await check(documents=world.documents, lake=world.lake, clock=world.clock)
    assert {violation["invariant"] for violation in report["violations"]} == {"I2"}
    assert len(report["violations"]) == 2


async def test_an_altered_or_removed_audit_row_shows(world) -> None:
    from dataclasses import replace

    await world.dataset()
    first = await world.commit(await world.push(a=b"one"))
    await world.commit(await world.push(a=b"two"), parent=first.body["commit"])
    await world.settle()
    rows = world.documents.trail.rows
    victim = sorted(rows.values(), key=lambda row: row.link.position)[1]
    rows[victim.id] = replace(victim, principal="mallory")
    report = await check(documents=world.documents, lake=world.lake, clock=world.clock)
    assert any("chain is broken" in violation["what"] for violation in report["violations"])
    del rows[victim.id]
    report = await check(documents=world.documents, lake=world.lake, clock=world.clock)
    assert any("chain" in violation["what"] for violation in report["violations"])


async def _records(world, **files):
    from blake3 import blake3

    from millrace.records import Record
    from millrace.records.stored import save_records
    from millrace.records.table import RecordTable

    rows = [
        Record(f"{name}.txt", "Text", f"{name}.txt", len(data), blake3(data).hexdigest(), "text/plain")
        for name, data in files.items()
    ]
    return await save_records(world.store, "default", RecordTable.of(rows))


async def test_a_commit_may_name_the_records_of_its_files(world) -> None:
    from catalog.application.records import list_records, summarise_records

    await world.dataset()
    records = await _records(world, a=b"one", b=b"two")
    keyed = Caller("anna", "default", idempotency_key="k-1")
    pushed = await world.push(a=b"one", b=b"two")
    reply = await world.commit(pushed, records=records, caller=keyed)
    assert reply.body["records"] == records
    assert (await world.commit(pushed, records=records, caller=keyed)).body == reply.body
    with pytest.raises(KeyReused):
        await world.commit(pushed, caller=keyed)

    version = await find_version("default", "digits", "1", documents=world.documents)
    first = await list_records(version, kind=None, path="", after=None, limit=1, lake=world.lake)
    rest = await list_records(version, kind="Text", path="b", after=first["next"], limit=1, lake=world.lake)
    assert [item["id"] for item in first["items"] + rest["items"]] == ["a.txt", "b.txt"]
    assert rest["next"] is None
    summary = await summarise_records(version, lake=world.lake)
    assert (summary["total"], summary["types"]) == (2, {"Text": {"records": 2, "bytes": 6}})
    with pytest.raises(Invalid, match="after"):
        await list_records(version, kind=None, path="", after="x", limit=1, lake=world.lake)
    report = await check(documents=world.documents, lake=world.lake, clock=world.clock)
    assert report["violations"] == []
    del world.store.objects[f"default/records/{records}"]
    world.lake._tables.clear()
    report = await check(documents=world.documents, lake=world.lake, clock=world.clock)
    assert [item["invariant"] for item in report["violations"]] == ["I2"]


async def test_a_version_without_records_has_an_empty_page(world) -> None:
    from catalog.application.records import list_records, summarise_records

    await world.dataset()
    await world.commit(await world.push(a=b"one"))
    version = await find_version("default", "digits", "1", documents=world.documents)
    page = await list_records(version, kind=None, path="", after=None, limit=9, lake=world.lake)
    assert page == {"records": None, "items": [], "next": None}
    assert (await summarise_records(version, lake=world.lake))["total"] == 0


async def test_records_of_other_files_or_projects_are_refused(world) -> None:
    await world.dataset()
    pushed = await world.push(a=b"one")
    for other in ({"a": b"two"}, {"c": b"one"}):
        with pytest.raises(RecordsMismatch):
            await world.commit(pushed, records=await _records(world, **other))
    with pytest.raises(ObjectMissing):
        await world.commit(pushed, records="0" * 64)
    right = await _records(world, a=b"one")
    world.store.objects[f"other/records/{right}"] = world.store.objects.pop(f"default/records/{right}")
    world.lake._tables.clear()
    with pytest.raises(ObjectMissing):
        await world.commit(pushed, records=right)
    assert not world.events("dataset.committed")
