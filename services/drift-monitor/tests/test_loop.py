"""The loop on real servers: quiet, drift, labels, landing, quiet again."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from blake3 import blake3
from PIL import Image

from drift_monitor import bootstrap
from drift_monitor.adapters.png import PngPainter
from drift_monitor.application.answering import submit_answers
from drift_monitor.domain.pictures import pixels
from millrace.clock import SystemClock
from millrace.events import DeploymentRetired, build
from millrace.sealing import ProjectKey

from . import builders
from .conftest import LEAKY, Stage

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180), *LEAKY]


def world(seed: int = 0) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, builders.images(rng, 400), builders.images(rng, 200)


async def watched(stage: Stage, train: np.ndarray, held: np.ndarray) -> str:
    commit = await stage.commit(train)
    reference = await stage.reference(inputs=held, train=train, commit=commit)
    await stage.start()
    await stage.publish(stage.ready(reference=reference, commit=commit))
    await stage.until("watch", lambda: stage.monitor.kept.watches.get("default", "pets", 1))
    return commit


async def drifted(stage: Stage, rng: np.random.Generator) -> Any:
    """Send clean windows, then bright ones until labels are asked for; return the queue."""
    await stage.traffic(builders.images(rng, 150))
    state = await stage.counted(150)
    assert state.incident is None
    for number in range(1, 6):
        await stage.traffic(builders.images(rng, 50, level=0.6))
        state = await stage.counted(150 + 50 * number)
        assert state.incident is not None
    await stage.until("queue", stage.monitor.kept.queues.every)
    return (await stage.monitor.kept.queues.every())[0]


async def test_from_quiet_windows_over_labels_to_quiet_windows(stage: Stage) -> None:
    rng, train, held = world()
    commit = await watched(stage, train, held)
    queue = await drifted(stage, rng)
    view = await stage.get("/v1/drift/deployments/pets")
    assert [window["alert"] for window in view["windows"]] == [True] * 5 + [False] * 3
    assert view["windows"][0]["statistics"][0]["adjusted"] < 1e-6
    assert 0 < view["expected_false_alarms"] < 1e-3

    listed = (await stage.get("/v1/labels/queues"))["items"]
    assert [one["queue"] for one in listed] == [queue.id]
    assert (listed[0]["count"], listed[0]["random"], listed[0]["margin"]) == (40, 20, 20)
    items = (await stage.get(f"/v1/labels/queues/{queue.id}/items", limit=1_000))["items"]
    assert len({item["digest"] for item in items}) == 40
    picture = Image.open(io.BytesIO(base64.b64decode(items[0]["image"].partition(",")[2])))
    assert (picture.size, picture.mode) == ((8, 8), "L")
    async with stage.http("viewer") as client:
        assert (await client.get(items[0]["url"])).content == base64.b64decode(items[0]["image"].partition(",")[2])
        refused = await client.post(f"/v1/labels/queues/{queue.id}/answers", json={"answers": []})
        assert refused.status_code in {400, 403}
    await answer(stage, queue.id, items)

    landed = await stage.until("data.landed", lambda: stage.events("data.landed"))
    assert len(landed) == 1
    data = landed[0].data
    assert (data.mode, data.lineage.queue, data.lineage.incident, data.lineage.parent) == (
        "append",
        queue.id,
        queue.incident,
        commit,
    )
    prefix = data.uri.removeprefix(f"s3://{stage.shared.s3_bucket}/")
    keys = [info.key.removeprefix(prefix) async for info in stage.store.list(prefix)]
    assert sum(key.startswith("train/") for key in keys) == 20
    assert sum(key.startswith(f"reference/{queue.incident}/") for key in keys) == 20

    trained, shifted = builders.images(rng, 300, level=0.6), builders.images(rng, 100, level=0.6)
    second = await stage.reference(inputs=shifted, train=trained, commit=commit, record_set="incident")
    ready = stage.ready(reference=second, commit=commit, revision=2)
    await stage.publish(ready)
    await stage.traffic(builders.images(rng, 100, level=0.6), boot="boot-b", revision=2, version=2)
    resolved = await stage.until("drift.resolved", lambda: stage.events("drift.resolved"))
    assert resolved[0].causationid == ready.id
    assert resolved[0].data.quiet_windows == 2
    await check_story(stage)
    assert await stage.fsck() == []


async def answer(stage: Stage, queue: str, items: list[dict[str, Any]]) -> None:
    """Answer in two halves, each twice; a contradiction is refused."""
    async with stage.http() as client:
        url = f"/v1/labels/queues/{queue}/answers"
        answers = [{"prediction": item["prediction"], "label": item["predicted"]} for item in items]
        unknown = [{"prediction": items[0]["prediction"], "label": "unicorn"}]
        assert (await client.post(url, json={"answers": unknown})).status_code == 400
        for part in (answers[:10], answers[:10], answers[10:], answers):
            reply = await client.post(url, json={"answers": part})
            assert reply.status_code == 200, reply.text
        other = next(name for name in builders.CLASSES if name != items[0]["predicted"])
        clash = [{"prediction": items[0]["prediction"], "label": other}]
        assert (await client.post(url, json={"answers": clash})).status_code == 409
        assert reply.json()["complete"] is True
    async with stage.http("stranger") as client:
        assert (await client.get(f"/v1/labels/queues/{queue}")).status_code == 404


async def check_story(stage: Stage) -> None:
    """One correlation id, that of the first deployment, runs through all of it; each event names its cause."""
    first = (await stage.events("deployment.ready"))[0]
    kinds = ("drift.detected", "labels.requested", "labels.submitted", "data.landed", "drift.resolved")
    story = await stage.events(*kinds)
    assert [event.type for event in story] == [*kinds[:3], "labels.submitted", *kinds[3:]]
    assert {event.correlationid for event in story} == {first.correlationid}
    by_type = {event.type: event for event in story}
    assert by_type["drift.detected"].causationid == first.id
    assert by_type["labels.requested"].causationid == by_type["drift.detected"].id
    assert by_type["data.landed"].causationid == by_type["labels.submitted"].id


async def test_a_lost_announcement_is_found_by_asking(stage: Stage) -> None:
    rng, train, held = world()
    commit = await stage.commit(train)
    reference = await stage.reference(inputs=held, train=train, commit=commit)
    stage.catalog.versions[("pets", 1)] = {
        "digest": builders.DIGEST,
        "dataset": "pets",
        "commit": commit,
        "reference": reference,
    }
    await stage.start()
    await stage.traffic(builders.images(rng, 60))
    state = await stage.counted(60)
    assert state.next_window == 2
    assert (await stage.monitor.kept.watches.get("default", "pets", 1)).cause is None


async def test_what_serves_is_watched_at_the_start(stage: Stage) -> None:
    _, train, held = world()
    commit = await stage.commit(train)
    reference = await stage.reference(inputs=held, train=train, commit=commit)
    version = {"digest": builders.DIGEST, "dataset": "pets", "commit": commit, "reference": reference}
    stage.catalog.versions[("pets", 3)] = version
    desired = {**version, "revision": 4, "presence": "present", "model": "pets", "version": 3}
    stage.catalog.deployments = [
        {"name": "pets", "desired": desired, "observed": {"state": "ready", "revision": 4}},
        {"name": "dogs", "desired": desired, "observed": {"state": "pending", "revision": 3}},
        {"name": "Broken", "desired": 1},
    ]
    await stage.start()
    await stage.until("watch", lambda: stage.monitor.kept.watches.get("default", "pets", 4))
    assert len(await stage.monitor.kept.watches.every()) == 1


@pytest.mark.parametrize("key", [None, ProjectKey("default", bytes(range(32)))], ids=["clear", "encrypted"])
async def test_training_pictures_are_never_asked_for(stage: Stage, key: ProjectKey | None) -> None:
    """Half of the shifted pictures are files of the version: only the others are asked about."""
    stage.catalog.key = key
    rng, train, held = world()
    shifted = builders.images(rng, 250, level=0.6)
    commit = await stage.commit(shifted[::2])
    reference = await stage.reference(inputs=held, train=train, commit=commit)
    await stage.start()
    await stage.publish(stage.ready(reference=reference, commit=commit))
    await stage.traffic(shifted)
    queues = await stage.until("queue", stage.monitor.kept.queues.every)
    known = {blake3(PngPainter().paint(pixels(image))).hexdigest() for image in shifted[::2]}
    asked = {item.digest for item in queues[0].items}
    assert len(asked) == 40
    assert not asked & known


async def test_a_retired_revision_closes_its_last_window_short(stage: Stage) -> None:
    rng, train, held = world()
    await watched(stage, train, held)
    await stage.traffic(builders.images(rng, 20))
    await stage.counted(20)
    data = DeploymentRetired(deployment="pets", revision=1, model="pets", version=1)
    await stage.publish(build(data, source="/t", subject="pets", project="default", sequence=2, clock=SystemClock()))

    async def closed() -> Any:
        return (await stage.get("/v1/drift/deployments/pets"))["windows"]

    windows = await stage.until("window", closed)
    assert (windows[0]["outcome"], windows[0]["rows"]) == ("insufficient", 20)
    assert await stage.fsck() == []


async def test_a_second_incident_waits_until_the_cool_down_is_over(stage: Stage) -> None:
    stage.settings = stage.settings.model_copy(update={"cooldown_windows": 10})
    rng, train, held = world()
    await watched(stage, train, held)
    queue = await drifted(stage, rng)
    await stage.traffic(builders.images(rng, 100))
    state = await stage.counted(500)
    assert state.incident is None
    await stage.traffic(builders.images(rng, 200, level=0.6))
    state = await stage.counted(700)
    second = state.incident
    assert second not in {None, queue.incident}

    async def waits() -> bool:
        incident = await stage.monitor.kept.incidents.get(second)
        return incident.reason.startswith("labels were asked for at window")

    await stage.until("a reason to wait", waits)
    assert len(await stage.monitor.kept.queues.every()) == 1
    await stage.traffic(builders.images(rng, 250, level=0.6))
    await stage.counted(950)

    async def asked() -> bool:
        return len(await stage.monitor.kept.queues.every()) == 2

    await stage.until("the second queue", asked)
    assert await stage.fsck() == []


async def test_steps_that_run_twice_at_once_ask_and_land_once(stage: Stage) -> None:
    """Reconcilers of two processes may meet: compare-and-set lets one of them win."""
    rng, train, held = world()
    await watched(stage, train, held)
    queue = await drifted(stage, rng)
    http = httpx.AsyncClient(base_url=stage.shared.catalog_url)
    parts = [bootstrap._Parts(stage.settings, stage.shared, stage.monitor.runtime, http) for _ in "12"]
    items = {item.prediction: item.predicted for item in queue.items}
    await stage.monitor.transact(lambda uow: submit_answers("default", queue.id, items, by="ada", uow=uow))
    await asyncio.gather(*(part._lander().step() for part in parts), *(part._asker().step() for part in parts))
    await stage.until("data.landed", lambda: stage.events("data.landed"))
    assert len(await stage.events("data.landed")) == 1
    assert len(await stage.events("labels.requested")) == 1
    assert await stage.fsck() == []
    for part in parts:
        await part.client.close()
        await part.store.close()
    await http.aclose()
