"""The service as others meet it: routes and their guards, readiness, and the way from the bus to a process."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import nats
import pytest

from millrace.bus.reconcile import reconcile
from millrace.bus.topology import CONSUMERS, STREAMS
from millrace.clock import SystemClock, new_id
from millrace.events import CacheReady, TrainingRequested, build, decode, encode
from millrace.http import ANONYMOUS_PATHS, enumerate_routes
from trainer.domain.jobs import State

from ..conftest import COMMIT, eventually  # noqa: TID252 - tests have no package of their own

pytestmark = pytest.mark.servers


def client(trainer: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(trainer.app), base_url="http://trainer")


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def test_every_route_has_a_guard(lab: Any) -> None:
    async with lab.trainer() as trainer:
        bare = {guard.path for guard in enumerate_routes(trainer.app) if guard.action is None}
    assert bare <= ANONYMOUS_PATHS | {"/openapi.json"}


async def test_the_queue_is_shown_with_positions_and_reasons(lab: Any) -> None:
    lab.neighbours.ready = False
    async with lab.trainer() as trainer, client(trainer) as http:
        runs = [await lab.request(priority=priority) for priority in (0, 5)]
        items = (await http.get("/v1/queue", headers=bearer("viewer"))).json()["items"]
        assert {item["run"]: item["position"] for item in items} == {runs[0]: 2, runs[1]: 1}
        assert all(item["reason"] for item in items)
        one = await http.get(f"/v1/queue/{runs[0]}", headers=bearer("viewer"))
        assert one.json()["state"] == "waiting"
        assert (await http.delete(f"/v1/queue/{runs[0]}", headers=bearer("viewer"))).status_code == 403
        assert (await http.get("/v1/queue")).status_code == 401
        assert (await http.get("/v1/queue?project=default", headers=bearer("stranger"))).status_code == 404
        absent = await http.get(f"/v1/queue/{new_id()}", headers=bearer("owner"))
        assert (absent.status_code, absent.json()["code"]) == (404, "job-not-found")


async def test_devices_and_fsck_are_shown(lab: Any) -> None:
    async with lab.trainer() as trainer, client(trainer) as http:
        run = await lab.request(params={"epochs": 1, "seconds": 0.3})
        await lab.until(run, State.RUNNING)
        (device,) = (await http.get("/v1/gpus", headers=bearer("viewer"))).json()["items"]
        assert (device["id"], device["state"], device["run"], device["fence"]) == ("cpu:0", "busy", run, 1)
        await lab.until(run, State.COMPLETED)
        report = (await http.get("/v1/fsck", headers=bearer("owner"))).json()
        assert report == {"service": "trainer", "checked": 1, "violations": []}
        assert (await http.get("/v1/fsck", headers=bearer("viewer"))).status_code == 403
        reasons = (await http.get("/readyz")).json()["reasons"]
        assert set(reasons) <= {"bus", "outbox"}


async def test_from_the_bus_to_a_process_and_back(lab: Any, nats_server: Any) -> None:
    lab.environment["MILLRACE_NATS_URL"] = nats_server.url
    connection = await nats.connect(nats_server.url)
    try:
        await reconcile(connection, STREAMS.values(), CONSUMERS.values())
        await scenario(lab, connection)
    finally:
        await connection.close()


async def scenario(lab: Any, connection: Any) -> None:
    heard: list[Any] = []

    async def note(message: Any) -> None:
        heard.append(decode(message.data, subject=message.subject))

    await connection.subscribe("evt.training.*.v1.default", cb=note)
    stream = connection.jetstream()
    told_runs = 0
    async with lab.trainer(poll_seconds=60.0) as trainer:
        await eventually(lambda: ready(trainer), why="the service to be ready")
        for version in range(1, 11):
            run = str(new_id())
            lab.neighbours.ready = False
            request = TrainingRequested(
                run=run, dataset="d", version=version, commit=COMMIT, site="nfs-a", component="noop"
            )
            await publish(stream, request, run)
            await eventually(partial(told, heard, run, "training.queued", "FETCHING"), why="the reason")
            lab.neighbours.ready = True
            await publish(stream, cached(version), f"nfs-a/d@{version}")
            await eventually(partial(told, heard, run, "training.started"), why="started")
            await eventually(partial(told, heard, run, "training.completed"), why="completed")
            told_runs += 1
    assert told_runs == 10


async def ready(trainer: Any) -> bool:
    return not await trainer.runtime.reasons()


async def told(heard: list[Any], run: str, kind: str, reason: str = "") -> bool:
    return any(
        event.type == kind and event.data.run == run and reason in getattr(event.data, "reason", "") for event in heard
    )


def cached(version: int) -> CacheReady:
    return CacheReady(
        entry=f"nfs-a.default.{version}",
        site="nfs-a",
        dataset="d",
        version=version,
        commit=COMMIT,
        path="/x",
        files=1,
        bytes=1,
        fetched_bytes=1,
        tree_root="e" * 64,
        token=1,
        seconds=0.1,
    )


async def publish(stream: Any, data: Any, subject: str) -> None:
    event = build(data, source="/test", subject=subject, project="default", sequence=1, clock=SystemClock())
    await stream.publish(event.bus_subject, encode(event), headers={"Nats-Msg-Id": event.id})
