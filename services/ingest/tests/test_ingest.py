"""From landed files to a version, on a real mongod and a real S3."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.errors import HeadMoved
from millrace.errors import Unavailable

pytestmark = pytest.mark.servers

FILES = {"train/0/a.png": b"a" * 300, "train/1/b.png": b"b" * 200, "holdout/0/c.png": b""}


async def test_landed_files_become_a_version(lab: Any) -> None:
    ingest = await lab.ingest()
    uri = await lab.land("default/landing/factory/1/", FILES)

    job = await lab.take(ingest, uri, lineage={"incident": "inc-1", "queue": "q-1"})

    assert (job.state, job.version, job.files, job.bytes) == ("COMPLETED", 1, 3, 500)
    assert await lab.paths(job.commit) == ["holdout/0/c.png", "train/0/a.png", "train/1/b.png"]
    [row] = lab.catalog.versions["default/digits"]
    assert row["lineage"] == {"incident": "inc-1", "queue": "q-1", "event": job.id, "source": uri}
    started, completed = await lab.events()
    assert [started.type, completed.type] == ["ingest.started", "ingest.completed"]
    assert {event.correlationid for event in (started, completed)} == {"story-1"}
    assert {event.causationid for event in (started, completed)} == {job.id}
    assert await lab.violations(ingest) == []


async def test_append_keeps_the_parents_files_and_names_the_parent(lab: Any) -> None:
    ingest = await lab.ingest()
    first = await lab.take(ingest, await lab.land("default/landing/z/1/", FILES))

    second = await lab.take(
        ingest, await lab.land("default/landing/z/2/", {"train/0/d.png": b"d", "train/1/b.png": b"new"}), mode="append"
    )

    assert await lab.paths(second.commit) == ["holdout/0/c.png", "train/0/a.png", "train/0/d.png", "train/1/b.png"]
    assert lab.catalog.versions["default/digits"][1]["lineage"]["parent"] == first.commit
    assert (first.version, second.version) == (1, 2)


async def test_replace_keeps_only_what_landed(lab: Any) -> None:
    ingest = await lab.ingest()
    await lab.take(ingest, await lab.land("default/landing/z/1/", FILES))
    second = await lab.take(ingest, await lab.land("default/landing/z/2/", {"x.png": b"x"}))
    assert await lab.paths(second.commit) == ["x.png"]


async def test_one_event_is_one_version_however_often_it_comes(lab: Any) -> None:
    ingest = await lab.ingest()
    event = lab.event(await lab.land("default/landing/z/1/", FILES))
    for _ in range(5):
        await lab.receive(ingest, event)
        await lab.until_ended(ingest, event.key)
    assert lab.catalog.commits == 1
    assert [item.type for item in await lab.events()] == ["ingest.started", "ingest.completed"]


async def test_the_same_tree_again_is_the_same_version(lab: Any) -> None:
    ingest = await lab.ingest()
    uri = await lab.land("default/landing/z/1/", FILES)
    first, second = await lab.take(ingest, uri), await lab.take(ingest, uri)
    assert (first.id != second.id, first.version, second.version, lab.catalog.commits) == (True, 1, 1, 1)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://elsewhere/default/landing/z/", "not one that data is taken from"),
        ("s3://{bucket}/other/landing/z/", "lands below default/landing"),
        ("s3://{bucket}/default/packs/", "lands below default/landing"),
        ("s3://{bucket}/default/landing/", "lands below default/landing"),
        ("s3://{bucket}/default/landing/../../other/landing/z/", "dotted"),
        ("s3://{bucket}/default/landing/nothing-here/", "no file lies below"),
    ],
)
async def test_places_are_refused_with_a_reason(lab: Any, uri: str, why: str) -> None:
    ingest = await lab.ingest()
    job = await lab.take(ingest, uri.format(bucket=lab.bucket))
    assert (job.state, lab.catalog.commits) == ("FAILED", 0)
    assert why in job.reason
    assert [item.type for item in await lab.events()] == ["ingest.started", "ingest.failed"]


async def test_too_many_files_are_refused(lab: Any) -> None:
    ingest = await lab.ingest(max_files=2)
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", FILES))
    assert (job.state, "more than 2 files" in job.reason) == ("FAILED", True)


async def test_a_moved_head_is_built_upon_again(lab: Any) -> None:
    ingest = await lab.ingest()
    await lab.take(ingest, await lab.land("default/landing/z/1/", FILES))
    moves = 3

    async def somebody_else() -> None:
        nonlocal moves
        if moves:
            moves -= 1
            raise HeadMoved("the head moved")

    lab.catalog.before_commit = somebody_else
    job = await lab.take(ingest, await lab.land("default/landing/z/2/", {"y.png": b"y"}), mode="append")
    assert (job.state, job.version, moves) == ("COMPLETED", 2, 0)


async def test_an_answer_that_got_lost_is_asked_for_again(lab: Any) -> None:
    ingest = await lab.ingest()
    lost = 2

    async def lose() -> None:
        nonlocal lost
        if lost:
            lost -= 1
            raise Unavailable("the connection broke")

    lab.catalog.after_commit = lose
    job = await lab.take(ingest, await lab.land("default/landing/z/1/", FILES))
    assert (job.state, job.version, lab.catalog.commits) == ("COMPLETED", 1, 1)


async def test_a_finished_batch_in_a_zone_needs_no_event(lab: Any) -> None:
    uri = f"s3://{lab.bucket}/factory/out/"
    ingest = await lab.ingest(landing_zones=({"dataset": "digits", "uri": uri, "mode": "append"},))
    await lab.land("factory/out/monday/", FILES)
    await ingest.zones._step()
    assert await ingest.world.jobs.waiting() == []

    await lab.land("factory/out/monday/", {"_COMPLETE.json": b'{"files": 3, "bytes": 500}'})
    await ingest.zones._step()
    [job] = await ingest.world.jobs.waiting()
    done = await lab.until_ended(ingest, job.id)
    await ingest.zones._step()

    assert (done.state, done.version, done.files) == ("COMPLETED", 1, 3)
    assert await ingest.world.jobs.waiting() == []
    assert "_COMPLETE.json" not in await lab.paths(done.commit)


async def test_an_event_for_a_zones_batch_is_not_taken_twice(lab: Any) -> None:
    uri = f"s3://{lab.bucket}/factory/out/"
    ingest = await lab.ingest(landing_zones=({"dataset": "digits", "uri": uri, "mode": "append"},))
    batch = await lab.land("factory/out/monday/", {**FILES, "_SUCCESS": b""})
    await lab.take(ingest, batch.removesuffix("/"), mode="append")
    await ingest.zones._step()
    assert await ingest.world.jobs.waiting() == []


async def test_a_batch_with_less_than_promised_is_refused(lab: Any) -> None:
    ingest = await lab.ingest()
    uri = await lab.land("default/landing/z/1/", {**FILES, "_COMPLETE.json": b'{"files": 4}'})
    job = await lab.take(ingest, uri)
    assert (job.state, "promises 4 files" in job.reason) == ("FAILED", True)
