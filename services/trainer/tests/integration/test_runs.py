"""Runs from request to outcome: real MongoDB, real S3, real processes, neighbours over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from millrace.events import canonical_json
from trainer.domain.jobs import State

pytestmark = pytest.mark.servers


async def test_a_run_trains_registers_and_tells(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(model="digits", params={"epochs": 3, "package": True})
        job = await lab.until(run, State.COMPLETED, State.FAILED)
    assert (job.state, job.model_version, job.metrics) == (State.COMPLETED, 1, {"accuracy": 0.5, "epochs": 3.0})
    kinds = await lab.kinds(run)
    assert kinds[0] == "queued"
    assert kinds[-1] == "completed"
    assert "started" in kinds
    events = {event.type: event for event in await lab.events(run)}
    started = events["training.started"].data
    assert (started.attempt, started.fence, started.device, started.node) == (1, 1, "cpu:0", "node-a")
    assert (started.path, started.cache_hit, started.lease) == (lab.neighbours.data, True, f"lease-{run}")
    assert {event.correlationid for event in await lab.events(run)} == {events["training.queued"].correlationid}
    assert events["training.completed"].data.model_version == 1


async def test_what_the_run_said_reaches_the_catalog(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(params={"epochs": 3})
        await lab.until(run, State.COMPLETED)
    told = lab.neighbours
    assert [told.points[run, "loss", step] for step in (1, 2, 3)] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert told.points[run, "odd", 1] == "nan"
    assert (run, 200, "counting") in told.stages
    lines = [text for (owner, _, _), text in sorted(told.lines.items()) if owner == run]
    assert any(line.startswith(f"data {told.data} from epoch 0") for line in lines)
    offsets = sorted(offset for owner, fence, offset in told.lines if owner == run)
    assert offsets == list(range(len(offsets)))


async def test_a_component_gets_no_secret(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_SECRET", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    async with lab.trainer():
        run = await lab.request(params={"epochs": 1})
        await lab.until(run, State.COMPLETED)
    (line,) = [text for text in lab.neighbours.lines.values() if text.startswith("env ")]
    names = set(json.loads(line.removeprefix("env ")))
    assert {name for name in names if name.startswith("MILLRACE_")} == {
        "MILLRACE_RUN_ID",
        "MILLRACE_RUN_DIR",
        "MILLRACE_INPUT_DATASET",
        "MILLRACE_SOCKET",
    }
    assert "AWS_SECRET_ACCESS_KEY" not in names


async def test_the_package_lies_under_its_digest(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(model="digits", params={"epochs": 2, "package": True})
        await lab.until(run, State.COMPLETED)
    (body,) = lab.neighbours.registrations
    assert body["run"] == run
    assert body["digest"] == blake3(canonical_json(body["files"])).hexdigest()
    keys = {info.key: info.size async for info in lab.store.list(f"default/models/{body['digest']}/")}
    assert keys == {f"default/models/{body['digest']}/{it['path']}": it["size"] for it in body["files"]}
    assert body["reference"] == f"default/references/{blake3(b'{}').hexdigest()}"
    assert await lab.store.get(body["reference"]) == b"{}"
    cause = (await lab.events(run))[0]
    (headers,) = lab.neighbours.headers
    assert headers["x-correlation-id"] == cause.correlationid
    assert headers["x-causation-id"] == cause.causationid


async def test_checkpoints_are_whole_before_they_are_told(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(params={"epochs": 4, "seconds": 0.3})
        await lab.until(run, State.COMPLETED)
    told = [event.data for event in await lab.events(run) if event.type == "training.checkpointed"]
    assert told
    for made in told:
        raw = await lab.store.get(made.manifest)
        assert blake3(raw).hexdigest() == made.digest
        assert made.manifest == f"default/runs/{run}/1/checkpoint-{made.epoch}/manifest.json"
        for file in json.loads(raw)["files"]:
            data = await lab.store.get(made.manifest.replace("manifest.json", file["path"]))
            assert blake3(data).hexdigest() == file["digest"]


async def test_it_waits_for_the_cache_and_says_so(lab: Any) -> None:
    lab.neighbours.ready = False
    async with lab.trainer():
        run = await lab.request(params={"epochs": 1})
        while "FETCHING" not in (job := await lab.job(run)).reason:
            await asyncio.sleep(0.02)
        assert job.state is State.WAITING
        lab.neighbours.ready = True
        await lab.until(run, State.COMPLETED)
    reasons = [event.data.reason for event in await lab.events(run) if event.type == "training.queued"]
    assert reasons == ["waits for digits@1 at site nfs-a", "it is FETCHING"]


async def test_the_cache_lease_is_given_back(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(params={"epochs": 1})
        await lab.until(run, State.COMPLETED)
        while (await lab.job(run)).lease is not None:
            await asyncio.sleep(0.02)
    assert lab.neighbours.leases == {}


async def test_a_cache_lease_that_is_lost_is_taken_again(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with lab.trainer(renew_seconds=0.1):
        run = await lab.request(params={"epochs": 1, "gate": str(gate)})
        await lab.until(run, State.RUNNING)
        lab.neighbours.leases.clear()
        while not lab.neighbours.leases:
            await asyncio.sleep(0.02)
        lab.neighbours.ready = False
        lab.neighbours.leases.clear()
        while (job := await lab.job(run)).lease is not None:
            await asyncio.sleep(0.02)
        assert job.state is State.RUNNING
        gate.touch()
        await lab.until(run, State.COMPLETED)


async def test_an_error_of_our_own_does_not_spin(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("trainer.application.attempt.environment", broken)
    async with lab.trainer(attempts=2):
        run = await lab.request(params={"epochs": 1})
        job = await lab.until(run, State.FAILED)
    assert (job.attempt, job.reason) == (2, "an error of the trainer itself: KeyError")


async def test_a_second_run_waits_for_the_slot_and_says_for_whom(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with lab.trainer():
        first = await lab.request(params={"epochs": 1, "gate": str(gate)})
        await lab.until(first, State.RUNNING)
        second = await lab.request(params={"epochs": 1})
        while first not in (job := await lab.job(second)).reason:
            await asyncio.sleep(0.02)
        assert job.reason == f"waits for a CPU slot; held by run {first}"
        gate.touch()
        await lab.until(second, State.COMPLETED)
    assert ((await lab.job(first)).fence, (await lab.job(second)).fence) == (1, 2)


async def test_a_failing_run_is_tried_again_from_its_checkpoint(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(params={"epochs": 3, "seconds": 0.2, "fail_first": 1})
        job = await lab.until(run, State.COMPLETED, State.FAILED)
    assert (job.state, job.attempt, job.failures, job.fence) == (State.COMPLETED, 2, 1, 2)
    again = [event.data for event in await lab.events(run) if event.type == "training.preempted"]
    assert [fact.fence for fact in again] == [1]
    assert "boom: something is wrong" in again[0].reason


async def test_a_run_that_keeps_failing_fails_with_its_last_words(lab: Any) -> None:
    async with lab.trainer(attempts=2):
        run = await lab.request(params={"epochs": 1, "exit": 9})
        job = await lab.until(run, State.FAILED)
    assert (job.attempt, job.failures, job.exit_code) == (2, 2, 9)
    (failed,) = [event.data for event in await lab.events(run) if event.type == "training.failed"]
    assert failed.reason == "the process exited with 9: the last words"
    assert failed.exit_code == 9


async def test_an_unusable_input_is_not_tried_again(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(params={"epochs": 1, "exit": 65})
        job = await lab.until(run, State.FAILED)
    assert job.attempt == 1


async def test_an_unknown_component_fails_at_once_with_a_reason(lab: Any) -> None:
    run = await lab.request("no-such-thing")
    job = await lab.job(run)
    assert job.state is State.FAILED
    assert "there is no component no-such-thing" in job.reason
    assert await lab.kinds(run) == ["failed"]


async def test_a_command_that_is_not_there_fails(lab: Any) -> None:
    async with lab.trainer(attempts=1):
        run = await lab.request("absent")
        job = await lab.until(run, State.FAILED)
    assert "cannot start /no/such/command" in job.reason


async def test_a_request_that_comes_twice_is_one_run(lab: Any) -> None:
    run = await lab.request(params={"epochs": 1})
    again = await lab.request(params={"epochs": 7}, run=run)
    assert again == run
    assert (await lab.job(run)).params == {"epochs": 1}
    assert await lab.kinds(run) == ["queued"]


async def test_a_catalog_that_is_away_holds_up_no_run(lab: Any) -> None:
    lab.neighbours.away = True
    async with lab.trainer():
        run = await lab.request(model="digits", params={"epochs": 2, "package": True})
        job = await lab.until(run, State.REGISTERING, seconds=30)
        assert job.grant is None
        assert "waits for the catalog" in job.reason
        lab.neighbours.away = False
        await lab.until(run, State.COMPLETED)


async def test_a_refused_model_fails_the_run_with_the_catalogs_reason(lab: Any) -> None:
    lab.neighbours.refuse = "the digest is not that of the file list"
    async with lab.trainer():
        run = await lab.request(model="digits", params={"epochs": 1, "package": True})
        job = await lab.until(run, State.FAILED)
    assert job.reason == "the catalog refuses the model: the digest is not that of the file list"


async def test_noop_completes(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request("noop")
        await lab.until(run, State.COMPLETED)
    assert "noop" in lab.neighbours.lines.values()
