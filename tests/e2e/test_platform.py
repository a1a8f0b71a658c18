"""The platform as a whole, with every real server: events from outside, one trace, health, metrics, the way back."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import nats
import pytest

from millrace.clock import SystemClock, new_id
from tests.e2e.conftest import FILES, Platform, until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]


def test_landed_data_becomes_one_version_however_often_it_is_told(platform: Platform, trained: dict[str, Any]) -> None:
    def done() -> dict[str, Any] | None:
        operation: dict[str, Any] = platform.get(trained["operation"])
        return operation if operation["state"] in {"completed", "failed"} else None

    operation = until("the operation's end", done)
    assert operation["state"] == "completed", operation
    versions = platform.get("/v1/datasets/etl/versions")["items"]
    assert [version["version"] for version in versions] == [1]
    assert versions[0]["files"] == len(FILES)
    assert versions[0]["author"] == "ingest"


def test_nobody_called_the_next_step_and_the_cause_of_each_is_known(
    platform: Platform, trained: dict[str, Any]
) -> None:
    story = platform.get("/v1/events", correlation=trained["committed"]["correlationid"], order="oldest", limit=200)
    types = [item["event"]["type"] for item in story["items"]]
    for earlier, later in [
        ("data.landed", "dataset.committed"),
        ("dataset.committed", "cache.ready"),
        ("cache.ready", "training.started"),
        ("training.started", "training.completed"),
    ]:
        assert types.index(earlier) < types.index(later)


def test_one_trace_id_finds_lines_of_five_services_in_order(platform: Platform, trained: dict[str, Any]) -> None:
    trace = trained["committed"]["traceparent"].split("-")[1]

    def found() -> list[tuple[str, str]] | None:
        lines = [(str(r["ts"]), service) for service, r in platform.logs() if r.get("trace_id") == trace]
        services = {service for _, service in lines}
        return sorted(lines) if {"catalog", "ingest", "cache-manager", "trainer"} <= services else None

    lines = until("a trace over the services", found, 30)
    first: dict[str, str] = {}
    for moment, service in lines:
        first.setdefault(service, moment)
    assert first["ingest"] < first["cache-manager"] <= first["trainer"] or first["ingest"] < first["trainer"]


def test_a_dead_letter_can_be_read_and_replayed(platform: Platform) -> None:
    async def publish() -> None:
        seed = str(platform.stack.layout.seed("etl-default"))
        client = await nats.connect(
            platform.urls["nats"], nkeys_seed=seed, inbox_prefix=b"_INBOX_etl-default", max_reconnect_attempts=2
        )
        await client.jetstream().publish("evt.data.landed.v1.default", b'{"type": "data.landed", "nonsense": true}')
        await client.close()

    asyncio.run(publish())

    def letter() -> dict[str, Any] | None:
        found = platform.get("/v1/dlq")["items"]
        return next((item for item in found if item["durable"] == "ingest-on-data-landed"), None)

    dead = until("the dead letter", letter, 30)
    assert dead["reason"]
    replayed = platform.http.post(f"/v1/dlq/{dead['id']}/replay", headers={"idempotency-key": str(new_id())})
    assert replayed.is_success, replayed.text


def of_dataset(name: str, data: dict[str, Any]) -> bool:
    return bool(data["dataset"] == name)


def test_etl_straight_on_nats_becomes_a_version(platform: Platform) -> None:
    """Two outside systems that number their events alike are two, and each is answered."""
    number = f"etl-{new_id()}"
    events = [
        {
            "specversion": "1.0",
            "id": number,
            "source": f"/etl/{dataset}",
            "type": "data.landed",
            "time": SystemClock().now().isoformat(),
            "project": "default",
            "data": {"dataset": dataset, "uri": platform.land(dataset, FILES)},
        }
        for dataset in ("night", "day")
    ]

    async def publish() -> None:
        seed = str(platform.stack.layout.seed("etl-default"))
        client = await nats.connect(
            platform.urls["nats"], nkeys_seed=seed, inbox_prefix=b"_INBOX_etl-default", max_reconnect_attempts=2
        )
        for event in events:
            await client.jetstream().publish("evt.data.landed.v1.default", json.dumps(event).encode())
        await client.close()

    asyncio.run(publish())
    for dataset in ("night", "day"):
        completed = platform.event("ingest.completed", partial(of_dataset, dataset))
        assert completed["data"]["files"] == len(FILES)
        assert completed["correlationid"] == number
        operations = platform.get("/v1/operations", limit=1_000)["items"]
        mine = [item for item in operations if item["source"] == f"/etl/{dataset}"]
        assert [item["state"] for item in mine] == ["completed"]
        assert mine[0]["result"]["dataset"] == dataset


def test_every_service_is_ready_and_measured(platform: Platform) -> None:
    for name, url in platform.urls.items():
        if name not in {"catalog", "serving", "cache-manager", "ingest", "trainer", "drift-monitor"}:
            continue
        assert httpx.get(f"{url}/readyz", timeout=10).json()["status"] == "ready"
        assert "millrace_http_request_seconds" in httpx.get(f"{url}/metrics", timeout=10).text
        assert httpx.get(f"{url}/v1/anything", timeout=10).status_code in {401, 404}


def test_the_gateways_description_covers_every_service(platform: Platform) -> None:
    document = httpx.get(f"{platform.urls['gateway']}/openapi.json", timeout=30).json()
    for path in ("/v1/datasets", "/v1/cache/sites", "/v1/queue", "/v1/endpoints", "/v1/labels/queues", "/v1/gpus"):
        assert path in document["paths"], path


def test_fsck_finds_nothing(platform: Platform, trained: dict[str, Any]) -> None:
    def clean() -> dict[str, Any] | None:
        report: dict[str, Any] = platform.get("/v1/fsck")
        return report if not report["violations"] else None

    assert until("a clean fsck", clean, 30)["violations"] == []


def test_no_secret_stands_in_any_log_or_command_line(platform: Platform, trained: dict[str, Any]) -> None:
    import psutil

    files = [path for path in platform.stack.layout.secrets.rglob("*") if path.is_file()]
    names = {platform.stack.layout.s3_access_key, platform.stack.layout.bootstrap}  # a key's name, a list of files
    secrets = [path.read_text().strip() for path in files if path not in names]
    secrets = [secret for secret in secrets if len(secret) >= 16 and "\n" not in secret]
    assert len(secrets) > 20
    logs = "\n".join(path.read_text(errors="replace") for path in platform.stack.layout.logs.glob("*.log"))
    pids = [one.pid for one in platform.stack.state.processes.values() if one.pid]
    lines = "\n".join(" ".join(psutil.Process(pid).cmdline()) for pid in pids)
    for secret in secrets:
        assert secret not in logs
        assert secret not in lines
