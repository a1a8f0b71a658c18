"""One trace id, searched in the collected JSON logs, tells the story of a commit over five services, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millrace_sdk import Catalog
from millrace_sdk.folder import Config, WorkingCopy, run, write
from millrace_stack.demo import digits
from tests.e2e.conftest import Platform, until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

DATASET = "traced"
ORDER = ("catalog", "cache-manager", "trainer", "serving", "drift-monitor")


@pytest.fixture
def deployed(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A dataset version, and the model that policies trained on it and deployed."""
    gateway, token_file = platform.urls["gateway"], platform.stack.layout.owner_token
    monkeypatch.setenv("MILLRACE_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("MILLRACE_URL", gateway)
    train = {"component": "classifier", "model": DATASET, "site": "nfs-a", "params": {"epochs": 2}}
    platform.put(
        "/v1/policies/traced-train",
        {
            "on": "dataset.committed",
            "where": {"dataset": DATASET},
            "do": [{"cache": {"site": "nfs-a"}}, {"train": train}],
        },
    )
    platform.put(
        "/v1/policies/traced-deploy",
        {"on": "model.registered", "where": {"model": DATASET}, "do": [{"deploy": {"deployment": DATASET}}]},
    )
    split = digits.split()
    folder = tmp_path / DATASET
    digits.write(digits.Part(split.train.scans[:200], split.train.digits[:200]), folder / "train")
    digits.write(digits.Part(split.holdout.scans[:100], split.holdout.digits[:100]), folder / "holdout")
    with Catalog() as catalog:
        catalog.create_dataset(DATASET)
    config = Config(DATASET)
    write(folder, config)

    async def sync(copy: WorkingCopy) -> str:
        return (await copy.sync("traced")).commit

    commit = run(folder, config, sync)
    committed = platform.event("dataset.committed", lambda data: data["commit"] == commit)
    platform.event("deployment.ready", lambda data: data["deployment"] == DATASET, 180)
    return committed


def test_one_trace_id_gives_lines_of_five_services_in_order(platform: Platform, deployed: dict[str, Any]) -> None:
    trace = deployed["traceparent"].split("-")[1]

    def told() -> dict[str, str] | None:
        first: dict[str, str] = {}
        for service, record in platform.logs():
            if record.get("trace_id") == trace:
                first[service] = min(first.get(service, record["ts"]), record["ts"])
        return first if set(ORDER) <= set(first) else None

    first = until("lines of five services under one trace id", told, 30)
    moments = [first[service] for service in ORDER]
    assert moments == sorted(moments)
