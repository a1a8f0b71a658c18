"""The provisioner: creates, updates, reads back, recovers, and gives up only on a contradiction."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from nats.errors import Error as NatsError

from millrace.bus import jetstream
from millrace.bus.provision import Contradiction, Provisioner
from millrace.bus.reconcile import differences, reconcile
from millrace.bus.topology import CONSUMERS, STREAMS
from millrace.errors import Invalid, NotFound

Eventually = Callable[..., Awaitable[None]]

pytestmark = pytest.mark.servers


async def test_everything_is_created_as_the_topology_says(raw: Any) -> None:
    report = await reconcile(raw, STREAMS.values(), CONSUMERS.values())
    assert report.contradictions == []
    assert len(report.changes) == len(STREAMS) + len(CONSUMERS)
    for stream in STREAMS.values():
        info = await jetstream.stream_info(raw, stream.name)
        assert differences(stream.wanted(), info["config"]) == []
    again = await reconcile(raw, STREAMS.values(), CONSUMERS.values())
    assert (again.changes, again.contradictions, again.epochs) == ([], [], report.epochs)


async def test_the_effective_settings_are_those_of_the_design(provisioned: Any, raw: Any) -> None:
    events = (await jetstream.stream_info(raw, "EVENTS"))["config"]
    assert events["duplicate_window"] == 20 * 60 * 10**9
    assert events["max_age"] == 30 * 86_400 * 10**9
    assert (events["compression"], events["deny_delete"], events["retention"]) == ("s2", True, "limits")
    dlq = (await jetstream.stream_info(raw, "DLQ"))["config"]
    assert dlq["max_msg_size"] >= events["max_msg_size"] + 16 * 1024
    consumer = (await jetstream.consumer_info(raw, "EVENTS", "trainer-on-cache-ready"))["config"]
    assert consumer["filter_subjects"] == ["evt.cache.ready.*.*", "replay.trainer-on-cache-ready"]
    assert (consumer["ack_wait"], consumer["max_deliver"]) == (30 * 10**9, 25)
    assert "backoff" not in consumer


async def test_drift_is_mended(provisioned: Any, raw: Any) -> None:
    """What somebody changed by hand is changed back."""
    stream = (await jetstream.stream_info(raw, "EVENTS"))["config"]
    await jetstream.call(raw, "STREAM.UPDATE.EVENTS", {**stream, "max_age": 10**14, "republish": None})
    consumer = (await jetstream.consumer_info(raw, "EVENTS", "ingest-on-data-landed"))["config"]
    consumer["max_ack_pending"] = 7
    consumer["filter_subjects"] = ["evt.data.landed.*.*"]
    request = {"stream_name": "EVENTS", "config": consumer, "action": "update"}
    await jetstream.call(raw, "CONSUMER.CREATE.EVENTS.ingest-on-data-landed", request)
    report = await reconcile(raw, STREAMS.values(), CONSUMERS.values())
    assert report.contradictions == []
    assert {(change.name, change.action) for change in report.changes} == {
        ("EVENTS", "updated"),
        ("ingest-on-data-landed", "updated"),
    }
    assert (await reconcile(raw, STREAMS.values(), CONSUMERS.values())).changes == []


async def test_strangers_are_named_and_left_alone(provisioned: Any, raw: Any) -> None:
    request = {
        "stream_name": "EVENTS",
        "config": {"durable_name": "mine", "ack_policy": "explicit"},
        "action": "create",
    }
    await jetstream.call(raw, "CONSUMER.CREATE.EVENTS.mine", request)
    report = await reconcile(raw, STREAMS.values(), CONSUMERS.values())
    assert report.strangers == ["mine"]


async def test_a_contradiction_ends_the_provisioner(broker: Any, raw: Any) -> None:
    """Storage cannot be changed: it says what, and stops."""
    await jetstream.call(raw, "STREAM.CREATE.JOBS", {"name": "JOBS", "subjects": ["job.>"], "storage": "memory"})
    with pytest.raises(Contradiction, match="JOBS"):
        await asyncio.wait_for(Provisioner(servers=broker.url).run(), 20)


async def test_a_setting_the_server_ignores_is_a_contradiction(raw: Any) -> None:
    """Read back, not believed."""
    odd = replace(STREAMS["JOBS"], config={**STREAMS["JOBS"].config, "no_such_setting": True})
    report = await reconcile(raw, [odd], [])
    assert report.contradictions


async def test_plain_names_are_republished(provisioned: Any, raw: Any, eventually: Eventually) -> None:
    heard: list[str] = []

    async def note(message: Any) -> None:
        heard.append(message.subject)

    await raw.subscribe("*.*.default", cb=note)
    await raw.flush()
    await raw.jetstream().publish("evt.dataset.committed.v1.default", b"{}")
    await raw.jetstream().publish("evt.dataset.committed.v1.other", b"{}")
    await raw.jetstream().publish("evt.deployment.rolled_back.v1.default", b"{}")
    await eventually(lambda: len(heard) == 2)
    assert heard == ["dataset.committed.default", "deployment.rolled_back.default"]


async def test_a_refusal_says_why(raw: Any) -> None:
    with pytest.raises(NotFound):
        await jetstream.stream_info(raw, "NOTHING")
    with pytest.raises(Invalid):
        await jetstream.call(raw, "STREAM.CREATE.BAD", {"name": "BAD", "subjects": ["a..b"]})


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "MILLRACE_NATS_URL": url}


async def test_as_a_process_it_recreates_everything_after_a_wipe(broker: Any, eventually: Eventually) -> None:
    """It runs on, logs each epoch as JSON, and ends on SIGTERM with 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace.bus.provision"],
        env=_environment(broker.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        await eventually(lambda: _has_consumer(broker.url))
        broker.kill()
        broker.wipe()
        broker.start()
        await eventually(lambda: _has_consumer(broker.url))
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(process.communicate, timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, output.decode()
    lines = [json.loads(line) for line in output.decode().splitlines()]
    epochs = [line["created"] for line in lines if line["event"] == "stream epoch" and line["stream"] == "EVENTS"]
    assert len(set(epochs)) == 2


async def _has_consumer(url: str) -> bool:
    import nats

    connection = await nats.connect(url)
    try:
        await connection.jetstream().consumer_info("INFERENCE", "drift-monitor-on-inference")
    except NatsError:
        return False
    else:
        return True
    finally:
        await connection.close()


async def test_once_ends_after_a_good_look(broker: Any) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "millrace.bus.provision", "--once", env=_environment(broker.url)
    )
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_contradiction_is_exit_code_one(broker: Any, raw: Any) -> None:
    await jetstream.call(raw, "STREAM.CREATE.JOBS", {"name": "JOBS", "subjects": ["job.>"], "storage": "memory"})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "millrace.bus.provision", env=_environment(broker.url)
    )
    assert await asyncio.wait_for(process.wait(), 20) == 1
