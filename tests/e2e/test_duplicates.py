"""A thousand duplicated and shuffled events, replayed into every consumer of the platform: not one effect twice."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext

from millrace.bus.topology import CONSUMERS
from millrace.clock import new_id
from tests.e2e.conftest import Platform, until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

COPIES = 1_000
SEED = 20_261_125
STATES = (
    "/v1/datasets",
    "/v1/datasets/etl/versions",
    "/v1/runs",
    "/v1/models",
    "/v1/deployments",
    "/v1/policies/train-etl/executions",
    "/v1/cache/entries",
    "/v1/labels/queues",
    "/v1/drift/incidents",
    "/v1/queue",
    "/v1/dlq",
)
MOVING = {"idle_seconds", "revision", "updated_at", "last_used_at"}


def still(value: Any) -> Any:
    """Return a state without what moves by itself."""
    if isinstance(value, dict):
        return {name: still(item) for name, item in value.items() if name not in MOVING}
    return [still(item) for item in value] if isinstance(value, list) else value


def snapshot(platform: Platform) -> dict[str, Any]:
    states = {
        path: still(platform.get(path, limit=1_000) if "cache" not in path else platform.get(path)) for path in STATES
    }
    states["events"] = [" ".join(item["event"][key] for key in ("id", "type", "subject")) for item in events(platform)]
    return states


def events(platform: Platform) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = 0
    while page := platform.get("/v1/events", after=after, limit=1_000)["items"]:
        found += page
        after = page[-1]["position"]
    return found


async def connect(platform: Platform, user: str) -> nats.NATS:  # type: ignore[name-defined]
    return await nats.connect(
        platform.urls["nats"],
        nkeys_seed=str(platform.stack.layout.seed(user)),
        inbox_prefix=f"_INBOX_{user}".encode(),
        max_reconnect_attempts=3,
    )


async def replay(platform: Platform, copies: list[dict[str, Any]]) -> None:
    """Publish every copy under a message id of its own, as the service that published the original."""
    users = {str(event["source"]).removeprefix("/millrace/") for event in copies if "/millrace/" in event["source"]}
    streams: dict[str, JetStreamContext] = {}
    clients = []
    for user in sorted(users):
        client = await connect(platform, user)
        clients.append(client)
        streams[user] = client.jetstream()
    for event in copies:
        user = str(event["source"]).removeprefix("/millrace/")
        subject = f"evt.{event['type']}.v1.{event['project']}"
        raw = json.dumps(event).encode()
        await streams.get(user, streams["catalog"]).publish(subject, raw, headers={"Nats-Msg-Id": str(new_id())})
    for client in clients:
        await client.close()


async def settled(platform: Platform) -> bool:
    """Return whether no durable of EVENTS has anything left to deliver or to settle."""
    client = await connect(platform, "provisioner")
    try:
        manager = client.jetstream()
        names = [consumer.durable for consumer in CONSUMERS.values() if consumer.stream == "EVENTS"]
        infos = [await manager.consumer_info("EVENTS", name) for name in names]
        return all(not info.num_pending and not info.num_ack_pending for info in infos)
    finally:
        await client.close()


def quiet(platform: Platform) -> bool:
    """Return whether nothing is under way: all is settled, no operation is open, and no new event came for a second."""
    newest = events(platform)[-1]["position"]
    time.sleep(1.0)  # the length of the look itself, not a wait for luck: it is repeated until it sees nothing move
    open_states = {"accepted", "running"}
    return (
        asyncio.run(settled(platform))
        and not any(item["state"] in open_states for item in platform.get("/v1/operations", limit=1_000)["items"])
        and events(platform)[-1]["position"] == newest
    )


def test_no_effect_happens_twice(platform: Platform, trained: dict[str, Any]) -> None:
    until("the platform to be quiet", lambda: quiet(platform) or None, 60)
    originals = [item["event"] for item in events(platform)]
    before = snapshot(platform)
    draw = random.Random(SEED)
    copies = draw.choices(originals, k=COPIES)
    assert len(originals) >= 8
    asyncio.run(replay(platform, copies))
    until("a thousand copies to be settled", lambda: quiet(platform) or None, 120)
    after = snapshot(platform)
    new = [event for event in after["events"] if event not in set(before["events"])]
    assert new == [], f"events that should not be: {[e for e in events(platform) if e['event']['id'] in ' '.join(new)]}"
    for name, state in before.items():
        assert after[name] == state, name
