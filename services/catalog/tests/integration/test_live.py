"""A whole catalog on its bus: what it publishes comes back, policies run once, the stream resumes."""

from __future__ import annotations

import asyncio
import json

import nats
import pytest

from millrace.bus.topology import EVENTS
from millrace.events import IngestCompleted, build, encode

from .conftest import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

POLICY = """
on: dataset.committed
where: {dataset: digits}
do:
  - cache: {site: nfs-a}
  - train: {component: classifier, model: digits, site: nfs-a}
"""


async def log(live, **filters) -> list[dict]:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return [item["event"] for item in (await live.call("GET", f"/v1/events?limit=1000&{query}")).json()["items"]]


async def test_a_commit_runs_its_policy_once_however_often_it_is_delivered(live, nats_server) -> None:
    await live.call("PUT", "/v1/datasets/digits", json={})
    put = await live.call("PUT", "/v1/policies/on-commit", content=POLICY)
    assert put.status_code == 201, put.text
    await live.commit(await live.push(a=b"one"))

    async def executed():
        return (await live.call("GET", "/v1/policies/on-commit/executions")).json()["items"]

    (execution,) = await until(executed)
    assert {request["state"] for request in execution["requests"]} == {"requested"}
    outbox = live.parts.transactor.database["outbox"]

    async def delivered() -> bool:
        pending = await outbox.count_documents({"state": "pending"})
        return pending == 0 and await live.parts.catalog.documents.log.count({"delivered": False}) == 0

    await until(delivered)
    client = await nats.connect(nats_server.url)
    stream = client.jetstream()
    async for row in outbox.find():
        for copy in range(5):
            await stream.publish(row["subject"], row["raw"], headers={"Nats-Msg-Id": f"{row['_id']}-{copy}"})
    await client.close()
    consumed = live.parts.transactor.database["inbox"]

    async def quiet() -> bool:
        info = await _pending(nats_server, "catalog-on-event")
        return info == 0

    await until(quiet)
    assert await consumed.count_documents({"_id.consumer": "catalog-on-event"}) >= 3
    assert len(await executed()) == 1
    assert len(await log(live, type="training.requested")) == 1
    assert len((await live.call("GET", "/v1/runs")).json()["items"]) == 1


async def _pending(nats_server, durable: str) -> int:
    client = await nats.connect(nats_server.url)
    try:
        info = await client.jetstream().consumer_info(EVENTS, durable)
        return info.num_pending + info.num_ack_pending
    finally:
        await client.close()


async def test_an_event_whose_delivery_is_lost_is_dealt_with_all_the_same(live) -> None:
    await live.parts.bus.stop()
    await live.call("PUT", "/v1/datasets/digits", json={})
    await live.call("PUT", "/v1/policies/on-commit", content=POLICY)
    await live.commit(await live.push(a=b"one"))

    async def runs():
        return (await live.call("GET", "/v1/runs")).json()["items"]

    assert len(await until(runs)) == 1


async def test_the_stream_goes_on_where_it_was_left(live) -> None:
    seen: list[tuple[int, str]] = []

    async def follow(after: int | None, count: int) -> None:
        headers = {} if after is None else {"last-event-id": str(after)}
        app, scope_headers = (
            live.app,
            [
                (b"authorization", f"Bearer {live.tokens['owner']}".encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
        )
        done = asyncio.Event()
        wanted = len(seen) + count
        buffer = b""

        async def receive():
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message) -> None:
            nonlocal buffer
            buffer += message.get("body", b"")
            while b"\n\n" in buffer:
                block, buffer = buffer.split(b"\n\n", 1)
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if ": " in line)
                if "id" in fields:
                    seen.append((int(fields["id"]), json.loads(fields["data"])["id"]))
                if len(seen) >= wanted:
                    done.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/v1/events/stream", "raw_path": b"/v1/events/stream", "query_string": b"type=dataset.committed",
            "root_path": "", "headers": scope_headers, "server": ("gateway", 80), "client": ("test", 1),
        }  # fmt: skip
        task = asyncio.create_task(app(scope, receive, send))
        await asyncio.wait_for(done.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await live.call("PUT", "/v1/datasets/digits", json={})
    parent = (await live.commit(await live.push(a=b"1"))).json()["commit"]
    await until(lambda: log(live, type="dataset.committed"))
    await follow(0, 1)
    for number in (2, 3):
        parent = (await live.commit(await live.push(a=b"%d" % number), parent)).json()["commit"]
    await follow(seen[-1][0], 2)
    assert [position for position, _ in seen] == sorted({position for position, _ in seen})
    assert len({event for _, event in seen}) == 3


async def test_an_outside_event_is_followed_to_its_end(live) -> None:
    event = {
        "specversion": "1.0", "id": "run-7", "source": "/adf/factory", "type": "data.landed",
        "data": {"dataset": "digits", "uri": "s3://lake/landing/digits/"},
    }  # fmt: skip
    headers = {"content-type": "application/cloudevents+json"}
    first = await live.call("POST", "/v1/events", who="etl", json=event, headers=headers)
    assert first.status_code == 202, first.text
    location = first.headers["location"]
    again = await live.call("POST", "/v1/events", who="etl", json=event, headers=headers)
    assert again.headers["location"] == location
    (landed,) = await until(lambda: log(live, type="data.landed"))
    assert landed["id"] == first.json()["event"]
    pending = await live.call("GET", location, who="etl")
    assert (pending.status_code, pending.json()["state"]) == (202, "accepted")
    assert "operation" in {item["kind"] for item in (await live.call("GET", "/v1/waiting")).json()["items"]}

    from millrace.events import decode

    cause = decode(json.dumps(landed).encode())
    data = IngestCompleted(job="j", dataset="digits", version=1, commit="0" * 64, files=1, bytes=1)
    done = build(
        data,
        source="/millrace/ingest",
        subject="j",
        project="default",
        sequence=2,
        clock=live.parts.clock,
        cause=cause,
    )
    client = await nats.connect(live.parts.bus._servers[0])
    await client.jetstream().publish(done.bus_subject, encode(done), headers={"Nats-Msg-Id": done.id})
    await client.close()

    async def ended():
        answer = await live.call("GET", location, who="etl")
        return answer.json() if answer.status_code == 200 else None

    operation = await until(ended)
    assert (operation["state"], operation["result"]["version"]) == ("completed", 1)


async def test_a_batch_is_one_operation_with_children(live) -> None:
    def event(number: int) -> dict:
        return {
            "specversion": "1.0", "id": f"b-{number}", "source": "/adf", "type": "data.landed",
            "data": {"dataset": "digits", "uri": f"s3://lake/landing/{number}/"},
        }  # fmt: skip

    headers = {"content-type": "application/cloudevents-batch+json"}
    answer = await live.call("POST", "/v1/events", who="etl", json=[event(1), event(2)], headers=headers)
    assert answer.status_code == 202
    shown = (await live.call("GET", answer.headers["location"], who="etl")).json()
    assert {item["id"] for item in shown["items"]} == {"b-1", "b-2"}
    first = (await live.call("GET", "/v1/operations?source=/adf&limit=1")).json()
    second = (await live.call("GET", f"/v1/operations?source=/adf&limit=1&after={first['next']}")).json()
    newest_first = [first["items"][0]["id"], second["items"][0]["id"]]
    assert newest_first == ["b-2", "b-1"]  # the batch itself is not among them
    assert (await live.call("GET", "/v1/operations?source=/adf&state=failed")).json()["items"] == []
    assert (await live.call("GET", "/v1/operations?state=nonsense")).status_code == 400
    mixed = await live.call(
        "POST", "/v1/events", who="etl", json=[event(3), {**event(4), "type": "x"}], headers=headers
    )
    assert mixed.status_code == 400
    wanted = {item["operation"] for item in shown["items"]}

    async def logged():  # an event is listed once it has its position in the log
        return {row["subject"] for row in await log(live, type="data.landed")} == wanted

    await until(logged)


async def test_a_poison_event_is_a_dead_letter_with_its_reason_and_can_be_replayed(live, nats_server) -> None:
    client = await nats.connect(nats_server.url)
    for raw in (b"not json", b'{"specversion": "1.0", "type": "no.such"}', b"\x00\xff"):
        await client.jetstream().publish("evt.data.landed.v1.default", raw)
    await client.close()

    async def letters():
        items = (await live.call("GET", "/v1/dlq?durable=catalog-on-event&limit=1000")).json()["items"]
        return items if len(items) >= 3 else None

    letter = (await until(letters))[0]
    assert letter["reason"]
    shown = (await live.call("GET", f"/v1/dlq/{letter['id']}")).json()
    assert "body" in shown
    replayed = await live.call("POST", f"/v1/dlq/{letter['id']}/replay")
    assert (replayed.status_code, replayed.json()["state"]) == (202, "replayed")

    async def dead_again():
        now = (await live.call("GET", f"/v1/dlq/{letter['id']}")).json()
        items = (await live.call("GET", "/v1/dlq?state=dead&limit=1000")).json()["items"]
        return now["replays"] == 1 and len(items) >= 3

    await until(dead_again)
    await live.commit(await live.push(a=b"x"))
    assert (await live.call("GET", "/readyz", who=None)).status_code == 200


async def test_the_webhook_handshake_is_for_allowed_origins_only(live) -> None:
    good = {"webhook-request-origin": "eventgrid.azure.net"}
    answer = await live.call("OPTIONS", "/v1/events", who=None, headers=good)
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    bad = await live.call("OPTIONS", "/v1/events", who=None, headers={"webhook-request-origin": "evil.example"})
    assert bad.status_code == 403
    assert "webhook-allowed-origin" not in bad.headers
    validation = [{"data": {"validationCode": "abc"}}]
    headers = {"aeg-event-type": "SubscriptionValidation"}
    answer = await live.call("POST", "/v1/events", who="etl", json=validation, headers=headers)
    assert answer.json() == {"validationResponse": "abc"}
