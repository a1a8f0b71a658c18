"""Counts that redelivery, disorder, two owners, a wiped broker and SIGKILL provably do not change."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drift_monitor.adapters.png import PngPainter
from drift_monitor.application.tallying import Tallier
from drift_monitor.domain.baseline import baseline
from drift_monitor.domain.exemplars import Pools
from drift_monitor.errors import CheckpointConflict
from millrace.bus.provision import Provisioner
from millrace.errors import Fenced
from millrace.failpoints import FLOWS
from millrace.inference import InferenceBatch
from millrace.reference import load

from . import builders
from .conftest import LEAKY, Broker, Stage

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240), *LEAKY]


async def prepared(stage: Stage, rng: np.random.Generator) -> tuple[str, str]:
    train, held = builders.images(rng, 400), builders.images(rng, 200)
    commit = await stage.commit(train)
    return await stage.reference(inputs=held, train=train, commit=commit), commit


def batches(rng: np.random.Generator, number: int, *, drift_from: int) -> list[InferenceBatch]:
    made, first = [], {"boot-a": 0, "boot-b": 0}
    for index in range(number):
        boot = ("boot-a", "boot-b")[index % 2]
        rows = int(rng.integers(3, 30))
        images = builders.images(rng, rows, level=0.62 if index >= drift_from else 0.4)
        made.append(builders.batch(images, first=first[boot], boot=boot))
        first[boot] += rows
    return made


async def expected_counts(stage: Stage, key: str, sent: list[InferenceBatch]) -> dict[str, list[int]]:
    """The counts of all rows, tallied once and straight."""
    base = baseline(key, load(await stage.store.get(key)))
    total: Counter[str] = Counter()
    found: dict[str, np.ndarray] = {}
    for one in sent:
        pane = Tallier(one, base, painter=PngPainter())(list(range(len(one))), Pools())
        for name, counts in pane.counts.items():
            found[name] = found.get(name, 0) + counts
        total["rows"] += pane.rows
    return {name: counts.tolist() for name, counts in found.items()}


async def actual_counts(stage: Stage) -> dict[str, list[int]]:
    """The counts of all windows: closed documents, and what the checkpoint holds."""
    found: dict[str, np.ndarray] = {}
    state = await stage.monitor.kept.checkpoints.get("default", "pets")
    panes = [window.pane.counts for window in (*state.open.values(), *state.closing)]
    documents = await stage.monitor.transact.database["windows"].find({}).to_list()
    panes += [{name: np.array(counts) for name, counts in one["counts"].items()} for one in documents]
    for pane in panes:
        for name, counts in pane.items():
            found[name] = found.get(name, 0) + counts
    return {name: counts.tolist() for name, counts in found.items()}


async def settled(stage: Stage) -> None:
    """Wait until every batch is acknowledged."""

    async def look() -> bool:
        info = await stage.raw.jetstream().consumer_info("INFERENCE", "drift-monitor-on-inference")
        return info.num_pending == 0 and info.num_ack_pending == 0

    await stage.until("all batches acknowledged", look, seconds=60)


async def test_a_thousand_duplicated_and_shuffled_batches_count_once(stage: Stage) -> None:
    rng = np.random.default_rng(3)
    key, commit = await prepared(stage, rng)
    await stage.start()
    ready = stage.ready(reference=key, commit=commit)
    for _ in range(3):
        await stage.publish(ready)
    sent = batches(rng, 60, drift_from=40)
    order = [index for index in range(60) for _ in range(17)]
    rng.shuffle(order)
    await asyncio.gather(*(stage.send(sent[index], fresh_id=True) for index in order))
    await stage.counted(sum(map(len, sent)))
    await settled(stage)
    assert await actual_counts(stage) == await expected_counts(stage, key, sent)
    assert (await stage.monitor.kept.checkpoints.get("default", "pets")).counted == sum(map(len, sent))
    assert await stage.fsck() == []


async def test_restarts_at_any_moment_change_nothing(stage: Stage) -> None:
    """The process stops and starts while batches stream in, and a takeover repeats what was not acknowledged."""
    rng = np.random.default_rng(4)
    key, commit = await prepared(stage, rng)
    await stage.start()
    await stage.publish(stage.ready(reference=key, commit=commit))
    sent = batches(rng, 40, drift_from=25)
    for start in range(0, 40, 8):
        for one in sent[start : start + 8]:
            await stage.send(one)
        await asyncio.sleep(float(rng.uniform(0, 0.15)))
        await stage.restart(wait=start == 32)
    await stage.counted(sum(map(len, sent)))
    await settled(stage)
    assert await actual_counts(stage) == await expected_counts(stage, key, sent)
    await check_incidents(stage)
    assert await stage.fsck() == []


POINTS = [f"drift.{point}.{moment}" for point in FLOWS["drift"] for moment in ("before", "after")]


@pytest.mark.slow
async def test_sigkill_at_every_failpoint_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    """The service's own process dies once at each of the twelve points, on real servers; then the sums are checked."""
    rng = np.random.default_rng(5)
    key, commit = await prepared(stage, rng)
    await stage.publish(stage.ready(reference=key, commit=commit))
    sent = batches(rng, 60, drift_from=20)
    specification = ";".join(f"{point}=kill@{1 + place % 2}" for place, point in enumerate(POINTS))
    process, deaths = None, 0
    log = (tmp_path / "log").open("wb")
    try:
        for one in sent:
            await stage.send(one)
        process = spawn(stage, tmp_path, specification, log)
        while deaths < len(POINTS):
            code = await asyncio.wait_for(asyncio.to_thread(process.wait), 60)
            assert code == -9, (tmp_path / "log").read_text()[-2_000:]
            deaths += 1
            if deaths in {4, 8}:
                await stage.send(sent[deaths], fresh_id=True)
            process = spawn(stage, tmp_path, specification, log)
            if deaths == len(POINTS):
                break
            await more_until_death(stage, process, sent, rng)
    finally:
        if process is not None:
            process.kill()
            process.wait()
        log.close()
    await stage.start()
    await stage.counted(sum(map(len, sent)), seconds=90)
    await settled(stage)
    assert await actual_counts(stage) == await expected_counts(stage, key, sent)
    await check_incidents(stage)
    assert await stage.fsck() == []


async def check_incidents(stage: Stage) -> None:
    """What a kill left unacknowledged comes 30 s later, old rows among new ones: but each incident is told once."""
    incidents = [one.id for one in await stage.monitor.kept.incidents.every()]
    detected = await stage.until("events", lambda: stage.events("drift.detected"))
    assert sorted(event.data.incident for event in detected) == sorted(incidents)
    resolved = [event.data.incident for event in await stage.events("drift.resolved")]
    assert len(set(resolved)) == len(resolved)
    assert set(resolved) <= set(incidents)


def spawn(stage: Stage, folder: Path, failpoints: str, log: Any) -> subprocess.Popen[bytes]:
    shared = stage.shared
    environment = {
        **os.environ,
        "MILLRACE_NATS_URL": shared.nats_url,
        "MILLRACE_CATALOG_URL": shared.catalog_url,
        "MILLRACE_S3_ENDPOINT": shared.s3_endpoint,
        "MILLRACE_S3_BUCKET": shared.s3_bucket,
        "MILLRACE_S3_ACCESS_KEY_FILE": str(shared.s3_access_key_file),
        "MILLRACE_S3_SECRET_KEY_FILE": str(shared.s3_secret_key_file),
        "MILLRACE_DRIFT_MONITOR_PORT": "0",
        "MILLRACE_DRIFT_MONITOR_MONGO_URI_FILE": str(stage.settings.mongo_uri_file),
        "MILLRACE_DRIFT_MONITOR_MONGO_DATABASE": stage.settings.mongo_database,
        "MILLRACE_DRIFT_MONITOR_TOKEN_FILE": str(stage.settings.token_file),
        "MILLRACE_DRIFT_MONITOR_WINDOW_ROWS": str(stage.settings.window_rows),
        "MILLRACE_DRIFT_MONITOR_PACE": "0.01",
        "MILLRACE_FAILPOINTS": failpoints,
        "MILLRACE_FAILPOINTS_STATE": str(folder / "hits"),
    }
    command = [sys.executable, "-m", "drift_monitor"]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def more_until_death(
    stage: Stage, process: subprocess.Popen[bytes], sent: list[InferenceBatch], rng: np.random.Generator
) -> None:
    """Keep rows coming, so that every point is met: new rows of a further boot while the process lives."""
    boot = f"boot-{len(sent)}"
    first = 0
    for _ in range(400):
        if process.poll() is not None:
            return
        one = builders.batch(builders.images(rng, 20, level=0.62), first=first, boot=boot)
        first += 20
        sent.append(one)
        await stage.send(one)
        await asyncio.sleep(0.15)
    raise AssertionError("a failpoint was never met")


async def test_an_old_owner_is_refused(stage: Stage) -> None:
    rng = np.random.default_rng(6)
    key, commit = await prepared(stage, rng)
    monitor = await stage.start()
    await stage.publish(stage.ready(reference=key, commit=commit))
    await stage.traffic(builders.images(rng, 20))
    state = await stage.counted(20)
    newer = await monitor.transact(lambda uow: uow.checkpoints.save(replace(state, token=state.token + 1)))
    with pytest.raises(Fenced):
        await monitor.transact(lambda uow: uow.checkpoints.save(replace(newer, token=state.token)))
    with pytest.raises(CheckpointConflict):
        await monitor.transact(lambda uow: uow.checkpoints.save(replace(state, token=newer.token)))
    await stage.traffic(builders.images(rng, 20))

    async def taken_over() -> bool:
        found = await monitor.kept.checkpoints.get("default", "pets")
        return found.counted == 40 and found.token > state.token

    await stage.until("a fresh lease with a higher token", taken_over)


async def test_two_monitors_count_once(stage: Stage, tmp_path: Path) -> None:
    """A second process waits while the first leads, and goes on where it stops."""
    rng = np.random.default_rng(8)
    key, commit = await prepared(stage, rng)
    await stage.start()
    await stage.publish(stage.ready(reference=key, commit=commit))
    log = (tmp_path / "log").open("wb")
    second = spawn(stage, tmp_path, "", log)
    try:
        sent = batches(rng, 20, drift_from=99)
        for one in sent[:10]:
            await stage.send(one)
        await stage.counted(sum(map(len, sent[:10])))
        first = stage.monitor
        await stage.stop()
        for one in sent[10:]:
            await stage.send(one)
        stage.monitor = first
        client = (await stage.start(lease_seconds=60)).kept
        state = await stage.counted(sum(map(len, sent)))
        assert state.token >= 2
        assert (await client.checkpoints.get("default", "pets")).counted == sum(map(len, sent))
    finally:
        second.terminate()
        second.wait(20)
        log.close()
    assert await actual_counts(stage) == await expected_counts(stage, key, sent)


async def test_a_wiped_broker_loses_no_count(stage: Stage, broker: Broker) -> None:
    rng = np.random.default_rng(7)
    key, commit = await prepared(stage, rng)
    await stage.start()
    ready = stage.ready(reference=key, commit=commit)
    await stage.publish(ready)
    sent = batches(rng, 20, drift_from=99)
    for one in sent[:10]:
        await stage.send(one)
    await stage.counted(sum(map(len, sent[:10])))
    await settled(stage)
    broker.kill()
    broker.wipe()
    broker.start()
    await asyncio.wait_for(Provisioner(servers=broker.url).run(once=True), 20)
    await stage.until("reconnect", lambda: connected(stage))
    await stage.publish(ready)
    for one in sent[5:]:  # sequences of the stream begin anew; five batches come again
        await stage.send(one)
    await stage.counted(sum(map(len, sent)))
    await settled(stage)
    assert await actual_counts(stage) == await expected_counts(stage, key, sent)
    assert await stage.fsck() == []


async def connected(stage: Stage) -> bool:
    return stage.raw.is_connected and await stage.monitor.bus.check() is None


async def test_poison_is_dead_lettered_and_the_rest_goes_on(stage: Stage) -> None:
    rng = np.random.default_rng(9)
    key, commit = await prepared(stage, rng)
    await stage.start()
    await stage.publish(stage.ready(reference=key, commit=commit))
    stream = stage.raw.jetstream()
    await stream.publish("tlm.inference.default.pets", b"\x00\xff not arrow")
    await stream.publish("tlm.inference.default.pets", b"")
    await stream.publish("tlm.inference.default.cats", (await encoded(rng)))
    wrong = replace(builders.batch(builders.images(rng, 5)), inputs=np.zeros((5, 9, 9, 1), np.float32))
    await stage.send(wrong)
    other = builders.batch(builders.images(rng, 5), first=5, digest="e" * 64)
    await stage.send(other)
    await stage.traffic(builders.images(rng, 30), boot="boot-z")
    await stage.counted(30)

    async def dead() -> Any:
        info = await stream.stream_info("DLQ")
        return info.state.messages == 5

    await stage.until("five dead letters", dead)
    message = await stream.get_last_msg("DLQ", "dlq.drift-monitor.drift-monitor-on-inference")
    assert message.headers["Millrace-Reason"]
    assert (await stage.monitor.kept.checkpoints.get("default", "pets")).counted == 30


async def encoded(rng: np.random.Generator) -> bytes:
    from millrace.inference import encode_batch

    return encode_batch(builders.batch(builders.images(rng, 5), deployment="dogs"))
