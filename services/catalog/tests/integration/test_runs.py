"""Runs, metrics, logs, models, aliases and deployments on real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from blake3 import blake3

from catalog.application.models import digest_of
from catalog.application.projections.receive import receive
from catalog.domain.models import PackageFile
from millrace.events import DeploymentReady, TrainingCompleted, TrainingStarted, build

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
AT = "2026-11-25T08:00:00Z"


async def a_run(gateway) -> dict:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    await gateway.commit(await gateway.push(a=b"one"))
    body = {"dataset": "digits", "site": "nfs-a", "component": "classifier", "model": "digits", "params": {"a.b": [1]}}
    answer = await gateway.call("POST", "/v1/runs", json=body, headers={"idempotency-key": "run-1"})
    assert answer.status_code == 201, answer.text
    again = await gateway.call("POST", "/v1/runs", json=body, headers={"idempotency-key": "run-1"})
    assert again.json() == answer.json()
    return answer.json()


async def hear(gateway, data, *, source: str, subject: str, sequence: int) -> None:
    event = build(data, source=source, subject=subject, project="default", sequence=sequence, clock=gateway.parts.clock)

    async def work(uow) -> None:
        await receive(event, uow=uow, clock=gateway.parts.clock)

    await gateway.parts.transactor(work, inbox=("catalog-on-event", event.id))


def started(run: dict, fence: int) -> TrainingStarted:
    return TrainingStarted(
        run=run["run"], attempt=fence, node="n", device="cpu:0", fence=fence, commit=run["commit"], site="nfs-a",
        path="/p", cache_hit=False, lease="l",
    )  # fmt: skip


async def test_a_run_asks_for_cache_and_training(gateway) -> None:
    run = await a_run(gateway)
    assert (run["state"], run["version"], run["params"]) == ("requested", 1, {"a.b": [1]})
    await gateway.settle()
    items = (await gateway.call("GET", f"/v1/events?correlation={run['correlation']}")).json()["items"]
    assert {item["event"]["type"] for item in items} == {"training.requested", "cache.requested"}
    waiting = (await gateway.call("GET", "/v1/waiting")).json()["items"]
    assert [(item["kind"], item["name"]) for item in waiting] == [("run", run["run"])]


async def test_a_run_may_begin_early_where_it_reads_packs(gateway) -> None:
    await a_run(gateway)
    body = {"dataset": "digits", "site": "nfs-a", "component": "classifier", "early": True}
    refused = await gateway.call("POST", "/v1/runs", json=body)
    assert (refused.status_code, "packs" in refused.text) == (400, True)
    run = (await gateway.call("POST", "/v1/runs", json={**body, "mode": "packs"})).json()
    assert (run["early"], run["mode"]) == (True, "packs")
    await gateway.settle()
    items = (await gateway.call("GET", f"/v1/events?correlation={run['correlation']}")).json()["items"]
    asked = {item["event"]["type"]: item["event"]["data"] for item in items}
    assert asked["training.requested"]["early"] is True


async def test_metrics_are_unique_and_a_stale_holder_is_fenced(gateway) -> None:
    run = await a_run(gateway)
    path = f"/v1/runs/{run['run']}"

    async def report(fence: int, *points: dict):
        body = {"fence": fence, "points": list(points)}
        return await gateway.call("POST", f"{path}/metrics", who="service-trainer", json=body)

    one = {"key": "val/loss.x", "step": 1, "value": 0.5, "at": AT}
    assert (await report(1, one, one)).json() == {"accepted": 2, "changed": 1}
    assert (await report(1, {**one, "value": 9.9})).json()["changed"] == 0
    many = [{"key": "loss", "step": step, "value": float(step)} for step in range(1_000)]
    answers = await asyncio.gather(*(report(1, *many) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {200, 409, 503}
    assert (await report(1, *many)).json()["changed"] == 0
    assert (await report(2, {**one, "value": 0.4}, {"key": "bad", "step": 1, "value": "NaN"})).status_code == 200
    fenced = await report(1, one)
    assert (fenced.status_code, fenced.json()["code"]) == (409, "fenced")
    shown = (await gateway.call("GET", path)).json()
    assert shown["latest"] == {"val/loss.x": 0.4, "loss": 999.0, "bad": "NaN"}
    curve = (await gateway.call("GET", f"{path}/metrics?key=loss&limit=50")).json()["items"]
    assert len(curve) <= 50
    assert (curve[0]["step"], curve[-1]["step"]) == (0, 999)
    whole = (await gateway.call("GET", f"{path}/metrics?key=loss&limit=10000")).json()["items"]
    assert [item["step"] for item in whole] == list(range(1_000))


async def test_log_lines_are_appended_once(gateway) -> None:
    run = await a_run(gateway)
    path = f"/v1/runs/{run['run']}/logs"

    async def write(fence: int, offset: int, *lines: str):
        body = {"fence": fence, "offset": offset, "lines": [{"at": AT, "stream": "stdout", "line": it} for it in lines]}
        return await gateway.call("POST", path, who="service-trainer", json=body)

    assert (await write(1, 0, "a", "b")).json() == {"accepted": 2, "added": 2, "next_offset": 2}
    assert (await write(1, 1, "b", "c")).json()["added"] == 1
    assert (await write(2, 0, "d")).json()["added"] == 1
    assert (await write(1, 3, "late")).status_code == 409
    first = (await gateway.call("GET", f"{path}?limit=2")).json()
    rest = (await gateway.call("GET", f"{path}?after={first['next']}")).json()
    assert [item["line"] for item in first["items"] + rest["items"]] == ["a", "b", "c", "d"]
    tail = (await gateway.call("GET", f"{path}?tail=true&limit=2")).json()
    assert [item["line"] for item in tail["items"]] == ["c", "d"]
    stage = {"fence": 2, "stages": [{"code": 300, "message": "evaluation", "at": AT}]}
    for _ in range(2):
        await gateway.call("POST", f"/v1/runs/{run['run']}/stages", who="service-trainer", json=stage)
    shown = (await gateway.call("GET", f"/v1/runs/{run['run']}")).json()
    assert [item["code"] for item in shown["stages"]] == [300]


async def a_package(gateway) -> tuple[str, list[dict]]:
    content = {"model.keras": b"weights", "package.json": b"{}"}
    files: list[dict[str, Any]] = [
        {"path": name, "digest": blake3(data).hexdigest(), "size": len(data)} for name, data in content.items()
    ]
    digest = digest_of(tuple(PackageFile(**file) for file in files))
    for name, data in content.items():
        await gateway.parts.store.put(f"default/models/{digest}/{name}", data)
    return digest, files


async def test_a_model_is_registered_once_by_run_named_and_deployed(gateway) -> None:
    run = await a_run(gateway)
    await hear(gateway, started(run, 3), source="/millrace/trainer", subject=run["run"], sequence=2)
    digest, files = await a_package(gateway)
    body = {
        "run": run["run"], "fence": 3, "digest": digest, "files": files, "uri": f"s3://b/default/models/{digest}",
        "framework": "keras", "metrics": {"accuracy": 0.98}, "dataset": "digits", "version": 1, "commit": run["commit"],
    }  # fmt: skip

    async def register(**changes):
        return await gateway.call("POST", "/v1/models/digits/versions", who="service-trainer", json={**body, **changes})

    assert (await register(fence=2)).json()["code"] == "fenced"
    assert (await register(digest="0" * 64)).json()["code"] == "content-mismatch"
    assert (await register(commit="0" * 64)).json()["code"] == "content-mismatch"
    assert (await register(reference="default/references/none")).json()["code"] == "object-missing"
    answers = await asyncio.gather(*(register() for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    again = await register()
    assert (again.status_code, again.json()["version"]) == (200, 1)
    listed = (await gateway.call("GET", "/v1/models/digits/versions")).json()["items"]
    assert [item["version"] for item in listed] == [1]

    named = await gateway.call("PUT", "/v1/models/digits/aliases/champion", json={"version": 1})
    assert named.json()["aliases"] == {"champion": 1}
    assert (await gateway.call("PUT", "/v1/models/digits/aliases/champion", json={"version": 7})).status_code == 404
    wish = {"model": "digits", "version": "champion"}
    made = await gateway.call("PUT", "/v1/deployments/digits", json=wish)
    assert (made.status_code, made.json()["revision"]) == (201, 1)
    assert (await gateway.call("PUT", "/v1/deployments/digits", json=wish)).json()["revision"] == 1
    ready = DeploymentReady(
        deployment="digits", revision=1, model="digits", version=1, digest=digest, dataset="digits",
        commit=run["commit"], backend_model="digits.v1", route_epoch=1, golden_error=0.0, seconds=1.0,
    )  # fmt: skip
    await hear(gateway, ready, source="/millrace/serving", subject="digits", sequence=1)
    shown = (await gateway.call("GET", "/v1/deployments/digits")).json()
    assert (shown["settled"], shown["observed"]["state"], shown["observed"]["version"]) == (True, "ready", 1)
    gone = (await gateway.call("DELETE", "/v1/deployments/digits")).json()
    assert (gone["revision"], gone["desired"]["presence"]) == (2, "absent")

    done = TrainingCompleted(run=run["run"], fence=3, metrics={"accuracy": 0.98}, seconds=1.0)
    await hear(gateway, done, source="/millrace/trainer", subject=run["run"], sequence=3)
    await gateway.settle()
    lineage = (await gateway.call("GET", f"/v1/lineage?node=run:{run['run']}&depth=3")).json()
    assert {edge["target"] for edge in lineage["downstream"]} >= {"model:digits@1", "deployment:digits@1"}
    assert {edge["source"] for edge in lineage["upstream"]} >= {"dataset:digits@1"}
    assert (await gateway.call("GET", "/v1/fsck?gather=false")).json()["violations"] == []
    (registered,) = [
        item["event"] for item in (await gateway.call("GET", "/v1/events?type=model.registered")).json()["items"]
    ]
    assert registered["correlationid"] == run["correlation"]
    chain = (await gateway.call("GET", "/v1/audit?limit=1000")).json()["items"]
    assert sorted(row["position"] for row in chain if row["position"]) == sorted(
        {row["position"] for row in chain if row["position"]}
    )
    assert "model.register" in {row["action"] for row in chain}
