"""A worker that dies at any point of a job, and a fresh one that goes on; two workers at once; hostile names."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from millrace import failpoints
from millrace.objects import ObjectInfo

from .archive_files import zipped
from .dicom_files import leaks, slices

pytestmark = pytest.mark.servers

FILES = {f"train/{index % 3}/{index:03}.png": bytes([index]) * 50 for index in range(20)}
POINTS = [f"commit.{point}.{moment}" for point in ("D1", "D2", "D3", "D4") for moment in ("before", "after")]

TAKEOVER = 0.6
"""Seconds of silence after which the second one goes on; short, since that is all these tests wait for."""


class Died(BaseException):
    """Ends a worker as abruptly as one process can end another's work: no handler of ours catches it."""


async def until_dead(engine: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let an ingest work until it passes a failpoint, and leave everything as it lies there."""
    hit = asyncio.Event()

    def act(_name: str, _armed: Any) -> None:
        hit.set()
        raise Died(name)

    async def keep(*_: Any, **__: Any) -> None:
        return

    monkeypatch.setattr(failpoints, "_ARMED", failpoints.parse(f"{name}=raise"))
    monkeypatch.setattr(failpoints, "_HITS", {})
    monkeypatch.setattr(failpoints, "_act", act)
    engine.world.leases.release = keep
    async with asyncio.timeout(15):
        while not hit.is_set():
            await engine.attendance.step()
            await asyncio.wait([asyncio.create_task(hit.wait()), asyncio.create_task(asyncio.sleep(0.05))])
    await engine.attendance.close()


@pytest.mark.parametrize("point", POINTS)
async def test_a_job_that_dies_is_finished_by_another(lab: Any, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    first = await lab.ingest(takeover_seconds=TAKEOVER)
    event = lab.event(await lab.land("default/landing/z/1/", FILES))
    await lab.receive(first, event)
    await until_dead(first, monkeypatch, point)

    second = await lab.ingest(takeover_seconds=TAKEOVER)
    job = await lab.until_ended(second, event.key)

    assert (job.state, job.version, lab.catalog.commits) == ("COMPLETED", 1, 1)
    assert await lab.paths(job.commit) == sorted(FILES)
    assert [item.type for item in await lab.events()] == ["ingest.started", "ingest.completed"]
    assert await lab.violations(second) == []


@pytest.mark.parametrize("point", [point for point in POINTS if point.endswith("after")])
async def test_an_archive_of_scans_that_dies_is_finished_by_another(
    lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    first = await lab.ingest(takeover_seconds=TAKEOVER, spool_folder=spool)
    files = {f"{index}.dcm": data for index, data in enumerate(slices(3))}
    uri = await lab.land("default/landing/z/", {"scans.zip": zipped(files)})
    event = lab.event(f"{uri}scans.zip", format="archive")
    await lab.receive(first, event)
    await until_dead(first, monkeypatch, point)
    assert list(spool.iterdir()) == []

    second = await lab.ingest(takeover_seconds=TAKEOVER)
    job = await lab.until_ended(second, event.key)

    assert (job.state, job.version, job.files, lab.catalog.commits) == ("COMPLETED", 1, 3, 1)
    types = sorted(record.type for record in await lab.records(job.commit))
    assert types == ["CT Image", "CT Slice", "CT Slice", "CT Slice", "Study"]
    assert [item.type for item in await lab.events()] == ["ingest.started", "ingest.completed"]
    assert await lab.violations(second) == []


async def test_a_worker_that_dies_between_commit_and_its_record_commits_once(lab: Any) -> None:
    first = await lab.ingest(takeover_seconds=TAKEOVER)
    event = lab.event(await lab.land("default/landing/z/1/", FILES))
    await lab.receive(first, event)
    gone = asyncio.Event()

    async def die() -> None:
        gone.set()
        await asyncio.Event().wait()

    lab.catalog.after_commit = die
    await first.attendance.step()
    await gone.wait()
    await first.attendance.close()
    lab.catalog.after_commit = None
    other = await lab.ingest(takeover_seconds=TAKEOVER)
    await lab.take(other, await lab.land("default/landing/other/1/", {"o.png": b"o"}), mode="append", dataset="other")

    job = await lab.until_ended(other, event.key)

    assert (job.state, job.version, len(lab.catalog.versions["default/digits"])) == ("COMPLETED", 1, 1)


async def test_many_ingests_and_many_events_make_each_version_once_and_in_order(lab: Any) -> None:
    ingests = [await lab.ingest() for _ in range(3)]
    events = []
    for number in range(6):
        uri = await lab.land(f"default/landing/z/{number}/", {f"{number}.png": bytes([number])})
        events.append(lab.event(uri, mode="append"))
    deliveries = [(ingest, event) for event in events for ingest in ingests]
    for ingest, event in deliveries:
        await lab.receive(ingest, event)

    async def work(ingest: Any) -> None:
        for _ in range(30):
            await ingest.attendance.step()
            await ingest.attendance.idle()
            await asyncio.sleep(0.01)

    await asyncio.gather(*(work(ingest) for ingest in ingests))
    jobs = [await lab.until_ended(ingests[0], event.key) for event in events]

    assert [job.version for job in jobs] == [1, 2, 3, 4, 5, 6]
    assert lab.catalog.commits == 6
    assert await lab.paths(jobs[-1].commit) == [f"{number}.png" for number in range(6)]


async def test_duplicated_and_shuffled_events_have_one_effect(lab: Any) -> None:
    ingest = await lab.ingest()
    events = []
    for number in range(5):
        uri = await lab.land(f"default/landing/z/{number}/", {"x.png": bytes([number])})
        events.append(lab.event(uri, dataset=f"set-{number}"))
    shuffled = events * 20
    random.Random(5).shuffle(shuffled)
    for event in shuffled:
        await lab.receive(ingest, event)
    for event in events:
        await lab.until_ended(ingest, event.key)
    for event in shuffled:
        await lab.receive(ingest, event)
    await ingest.attendance.step()
    await ingest.attendance.idle()
    assert lab.catalog.commits == 5
    assert len(await lab.events()) == 10


@pytest.mark.parametrize(
    "name",
    ["_READY", "a/.millrace-data/../x", "b\\c.png", "caf\u0065\u0301.png", "a\u200b/\x7f.png", "x" * 256, "A.PNG"],
)
async def test_hostile_names_are_refused_whole(lab: Any, name: str) -> None:
    ingest = await lab.ingest()
    uri = "s3://" + lab.bucket + "/default/landing/z/1/"
    store = Hostile(lab.store, "default/landing/z/1/", {"a.png": b"1", name: b"2"})
    ingest.world.places.folders._stores = lambda bucket: store
    job = await lab.take(ingest, uri)
    assert job.state == "FAILED"
    assert job.reason
    assert lab.catalog.commits == 0


class Hostile:
    """Lists names that a decent client would not let through."""

    def __init__(self, inner: Any, prefix: str, files: dict[str, bytes]) -> None:
        self._inner = inner
        self._objects = {prefix + path: data for path, data in files.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def list(self, prefix: str) -> Any:
        for key, data in self._objects.items():
            yield ObjectInfo(key=key, size=len(data))


async def test_a_landing_that_changes_while_it_is_read_is_read_again(lab: Any) -> None:
    ingest = await lab.ingest()
    uri = await lab.land("default/landing/z/1/", {"a.png": b"short"})
    listed = ingest.world.places.folders.list
    calls = 0

    async def changing(place: Any, bounds: Any) -> Any:
        nonlocal calls
        calls += 1
        landing = await listed(place, bounds)
        if calls == 1:
            await lab.land("default/landing/z/1/", {"a.png": b"something longer"})
        return landing

    ingest.world.places.folders.list = changing
    job = await lab.take(ingest, uri)
    assert (job.state, calls, job.bytes) == ("COMPLETED", 2, 16)


async def test_what_was_examined_is_what_is_written(lab: Any) -> None:
    """A file that somebody swaps between the look and the copy, even for one of the same size, is looked at again."""
    ingest = await lab.ingest()
    [scan] = slices(1)
    plain = b"x" * len(scan)
    uri = await lab.land("default/landing/z/1/", {"a.bin": plain})
    build = ingest.world.lake.build
    swapped = False

    async def swap_first(*arguments: Any) -> Any:
        nonlocal swapped
        if not swapped:
            swapped = True
            await lab.land("default/landing/z/1/", {"a.bin": scan})
        return await build(*arguments)

    ingest.lake.build = swap_first
    job = await lab.take(ingest, uri)
    assert (job.state, job.attempts) == ("COMPLETED", 1)
    [path] = await lab.paths(job.commit)
    assert path.endswith(".dcm")
    keys = [info.key async for info in lab.store.list("default/") if "/landing/" not in info.key]
    assert leaks(b"".join([await lab.store.get(key) for key in keys])) == []
