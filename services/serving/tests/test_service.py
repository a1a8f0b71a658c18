"""The whole service on real servers: what a deployment's requester and its users see."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import replace
from itertools import pairwise
from typing import Any

import nats
import numpy as np
import psutil
import pytest

from millrace.http import ANONYMOUS_PATHS, enumerate_routes
from millrace.inference import batch_subject, decode_batch, message_id

pytestmark = [pytest.mark.servers]


async def test_a_requested_model_answers(service: Any, kit: Any) -> None:
    model, name, images = kit.a_model(), kit.a_name(), kit.some_images(3)
    spec = await service.deploy(model, deployment=name)
    ready = await service.event("deployment.ready", name, 1)
    assert ready.data.backend_model == f"{name}.v1"
    assert ready.data.route_epoch == 1
    assert ready.data.golden_error < 1e-5
    assert ready.data.digest == spec.digest
    answer = await service.infer(name, images)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model_name"], body["model_version"]) == (name, "1")
    np.testing.assert_allclose(np.array(body["outputs"][0]["data"]).reshape(3, 10), model(images), atol=1e-5)
    assert answer.headers["x-model-version"] == f"{name}@1"
    assert answer.headers["x-route-epoch"] == "1"
    assert "x-prediction-id" in answer.headers
    assert (await service.endpoint(name))["state"] == "READY"


async def test_a_wrong_golden_answer_fails_and_the_old_revision_goes_on(service: Any, kit: Any) -> None:
    good, name, images = kit.a_model(), kit.a_name(), kit.some_images(2)
    await service.deploy(good, deployment=name)
    await service.event("deployment.ready", name, 1)
    await service.deploy(kit.a_model(1), deployment=name, revision=2, version=2, offset=0.01)
    failed = await service.event("deployment.failed", name, 2)
    assert "golden answer differs by 0.01" in failed.data.reason
    answer = await service.infer(name, images)
    assert answer.headers["x-model-version"] == f"{name}@1"
    np.testing.assert_allclose(np.reshape(answer.json()["outputs"][0]["data"], (2, 10)), good(images), atol=1e-5)
    view = await service.endpoint(name)
    assert (view["state"], view["serving"]["revision"], view["route"]["epoch"]) == ("FAILED", 1, 1)

    async def collected() -> bool:
        return f"{name}.v2" not in service.built.world.models or not service.built.world.ready(f"{name}.v2")

    await kit.eventually(collected, why="the refused model is unloaded")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"model_onnx": b"this is no graph"}, "given up after 3 attempts"),
        ({"package_json": b"{"}, "package.json is not valid JSON"),
        ({"golden_json": b'{"inputs":[],"outputs":[],"tolerance":0}'}, "golden.json"),
    ],
)
async def test_a_bad_package_fails_with_its_reason(service: Any, kit: Any, files: Any, reason: str) -> None:
    name = kit.a_name()
    await service.deploy(kit.a_model(), deployment=name, **files)
    failed = await service.event("deployment.failed", name, 1, seconds=60)
    assert reason in failed.data.reason
    answer = await service.infer(name, kit.some_images())
    assert answer.status_code == 404


async def test_bytes_that_do_not_match_the_digest_are_never_served(service: Any, kit: Any) -> None:
    name, files = kit.a_name(), kit.a_package(kit.a_model())
    digest = await kit.put_package(service.store, files)
    spoiled = bytearray(files["model.onnx"])
    spoiled[len(spoiled) // 2] ^= 1
    await service.store.put(f"default/models/{digest}/model.onnx", bytes(spoiled))
    await service.publish(kit.a_request(kit.a_spec(deployment=name, model=name, digest=digest)))
    failed = await service.event("deployment.failed", name, 1)
    assert "digest" in failed.data.reason


async def test_a_prefix_outside_the_project_is_refused(service: Any, kit: Any) -> None:
    name = kit.a_name()
    digest = await kit.put_package(service.store, kit.a_package(kit.a_model()), project="other")
    spec = kit.a_spec(deployment=name, model=name, digest=digest, prefix=f"other/models/{digest}")
    await service.publish(kit.a_request(spec))
    failed = await service.event("deployment.failed", name, 1)
    assert "prefix" in failed.data.reason


async def test_a_new_revision_takes_over_under_traffic_without_an_error(service: Any, kit: Any) -> None:
    name, images = kit.a_name(), kit.some_images(1)
    await service.deploy(kit.a_model(), deployment=name)
    await service.event("deployment.ready", name, 1)
    answers: list[Any] = []
    stopping = False

    async def ask() -> None:
        while not stopping:
            answer = await service.infer(name, images)
            answers.append((answer.status_code, answer.headers.get("x-model-version"), answer.elapsed.total_seconds()))

    workers = [asyncio.create_task(ask()) for _ in range(4)]
    for revision in (2, 3, 4):
        await service.deploy(kit.a_model(revision), deployment=name, revision=revision, version=revision)
        await service.event("deployment.ready", name, revision)
        await service.event("deployment.retired", name, revision - 1)
    stopping = True
    await asyncio.gather(*workers)
    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == {f"{name}@{version}" for version in (1, 2, 3, 4)}
    versions = [int(version.partition("@")[2]) for _, version, _ in answers]
    print(f"{len(answers)} answers, slowest {max(seconds for _, _, seconds in answers):.3f} s")
    assert sum(later < earlier for earlier, later in pairwise(versions)) <= 3 * len(workers)
    assert not service.built.world.ready(f"{name}.v1")


async def test_a_killed_triton_is_a_503_and_then_heals_by_itself(service: Any, kit: Any, own_triton: Any) -> None:
    name, images = kit.a_name(), kit.some_images(1)
    await service.deploy(kit.a_model(), deployment=name)
    await service.event("deployment.ready", name, 1)
    own_triton.kill()
    answer = await service.infer(name, images)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    shutil.rmtree(own_triton.repository / f"{name}.v1")

    async def said() -> bool:
        ready = await service.client.get("/readyz")
        return bool(ready.status_code == 503 and "models" in ready.json()["reasons"])

    await kit.eventually(said)
    own_triton.spawn()
    await asyncio.to_thread(own_triton.wait)
    seen = []

    async def healed() -> bool:
        seen.append((await service.infer(name, images)).status_code)
        return bool(seen[-1] == 200)

    await kit.eventually(healed, seconds=30)
    assert set(seen) <= {200, 503}
    assert (await service.client.get("/readyz")).json()["reasons"] == {}
    fsck = (await service.client.get("/v1/fsck", headers=kit.bearer("owner"))).json()
    assert fsck["violations"] == []
    assert fsck["checked"] >= 1
    assert len([event for event in service.heard if event.type == "deployment.ready"]) == 1


async def test_a_model_whose_process_was_killed_heals_by_itself(service: Any, kit: Any) -> None:
    name, images = kit.a_name(), kit.some_images(1)
    await service.deploy(kit.a_model(), deployment=name)
    await service.event("deployment.ready", name, 1)
    stubs = [
        p for p in psutil.process_iter(["cmdline"]) if f"/{name}.v1/1/model.py" in " ".join(p.info["cmdline"] or [])
    ]
    for stub in stubs:
        stub.kill()
    seen = []

    async def healed() -> bool:
        seen.append((await service.infer(name, images)).status_code)
        return len(seen) > 1 and seen[-1] == 200

    await kit.eventually(healed, seconds=30)
    assert stubs
    assert set(seen) == {200, 503}


async def test_a_restarted_service_serves_on(service_settings: Any, kit: Any, own_triton: Any) -> None:
    name, images = kit.a_name(), kit.some_images(1)
    async with kit.running_service(*service_settings) as service:
        await service.deploy(kit.a_model(), deployment=name)
        await service.event("deployment.ready", name, 1)
    async with kit.running_service(*service_settings) as service:

        async def answers() -> bool:
            return bool((await service.infer(name, images)).status_code == 200)

        await kit.eventually(answers)
        assert service.built.world.ready(f"{name}.v1")


async def test_retiring_ends_in_404_and_an_empty_server(service: Any, kit: Any) -> None:
    name = kit.a_name()
    spec = await service.deploy(kit.a_model(), deployment=name)
    await service.event("deployment.ready", name, 1)
    await service.publish(kit.a_request(replace(spec, revision=2, present=False)))
    await service.event("deployment.retired", name, 1)
    assert (await service.infer(name, kit.some_images())).status_code == 404
    assert (await service.endpoint(name))["state"] == "RETIRED"


async def test_captured_rows_reach_the_stream_once_and_whole(service: Any, kit: Any) -> None:
    model, name = kit.a_model(), kit.a_name()
    spec = await service.deploy(model, deployment=name)
    ready = await service.event("deployment.ready", name, 1)
    images = {f"row-{number}": kit.some_images(1, seed=number) for number in range(30)}
    for prediction, image in images.items():
        body = kit.a_question(image, id=prediction)
        answer = await service.client.post(f"/v2/models/{name}/infer", json=body, headers=kit.bearer())
        assert answer.headers["x-prediction-id"] == prediction
    many = kit.some_images(5, seed=99)
    await service.client.post(f"/v2/models/{name}/infer", json=kit.a_question(many, id="many"), headers=kit.bearer())
    off = kit.bearer("owner") | {"x-millrace-capture": "off"}
    await service.infer(name, kit.some_images(), headers=off)
    subscription = await service.connection.jetstream().subscribe(
        batch_subject("default", name), ordered_consumer=True, stream="INFERENCE"
    )
    batches: list[Any] = []

    async def all_there() -> bool:
        with contextlib.suppress(TimeoutError, nats.errors.TimeoutError):
            message = await subscription.next_msg(timeout=0.2)
            batch = decode_batch(message.data, subject=message.subject)
            assert message.headers["Nats-Msg-Id"] == message_id(batch.header)
            batches.append(batch)
        return sum(map(len, batches)) >= 35

    await kit.eventually(all_there)
    ids = [prediction for batch in batches for prediction in batch.prediction_ids]
    assert sorted(ids) == sorted([*images, *(f"many/{row}" for row in range(5))])
    for batch in batches:
        header = batch.header
        assert (header.revision, header.model, header.version, header.digest) == (1, name, 1, spec.digest)
        assert (header.route_epoch, header.rows_lost, header.sampling) == (ready.data.route_epoch, 0, 1.0)
        for prediction, inputs, outputs in zip(batch.prediction_ids, batch.inputs, batch.outputs, strict=True):
            expected = images.get(prediction)
            if expected is not None:
                np.testing.assert_array_equal(inputs, expected[0])
                np.testing.assert_allclose(outputs, model(expected)[0], atol=1e-5)
    sequences = [batch.header.seq0 for batch in batches]
    assert sequences == [sum(map(len, batches[:index])) for index in range(len(batches))]


async def test_every_route_but_health_needs_a_token(service: Any, kit: Any) -> None:
    guards = enumerate_routes(service.built.app._admin)
    unguarded = {guard.path for guard in guards if guard.action is None}
    assert unguarded <= ANONYMOUS_PATHS | {"/openapi.json"}
    for path in ("/v1/endpoints", "/v1/endpoints/digits", "/v1/fsck"):
        assert (await service.client.get(path)).status_code == 401
    assert (await service.client.get("/v1/fsck", headers=kit.bearer("viewer"))).status_code == 403
    assert (await service.client.get("/v1/endpoints/none", headers=kit.bearer("viewer"))).status_code == 404
    listed = (await service.client.get("/v1/endpoints", headers=kit.bearer("viewer"))).json()
    assert listed == {"items": [], "next": None}
    metrics = (await service.client.get("/metrics")).text
    assert "millrace_serving_infer_seconds" in metrics
    assert "/v1/endpoints" in (await service.client.get("/openapi.json")).json()["paths"]
