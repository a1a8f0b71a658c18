"""The platform with Azure as its lake: pushed, pulled, cached near the compute, and ingested from `az://`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.datasets.limits import CHUNK
from millrace.objects.lake import open_lake
from millrace.settings import SharedSettings
from millrace_sdk import Catalog, folder
from millrace_sdk.folder import Config
from millrace_stack import azurite_env
from millrace_stack.config import SERVICES, StackConfig
from millrace_stack.servers.azurite import ACCOUNT
from millrace_stack.stack import Stack, down, up

from .conftest import FILES, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]
NEEDED = {"catalog", "cache-manager", "ingest", "provisioner"}
BIG = random.Random(3).randbytes(CHUNK + 100_000)


@pytest.fixture(scope="module")
def azure_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if (reason := azurite_env.why_not()) is not None:
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("azure-stack")
    services = tuple(spec for spec in SERVICES if spec.name in NEEDED)
    try:
        yield up(home, StackConfig(ports="auto", lake="azure", services=services, servers=("nats", "mongo", "s3")))
    finally:
        down(home)


@pytest.fixture
def catalog(azure_stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Catalog]:
    monkeypatch.setenv("MILLRACE_HOME", str(azure_stack.layout.root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Catalog() as client:
        yield client


def read(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def land(stack: Stack, name: str) -> str:
    """Put files below a landing prefix of the lake, as an ETL job with a key of its own would."""
    shared = SharedSettings(
        lake="azure",
        azure_account=ACCOUNT,
        azure_endpoint=stack.state.urls["azurite"],
        azure_key_file=stack.layout.azure_key,
    )

    async def put() -> None:
        lake = open_lake(shared)
        for path, data in FILES.items():
            await lake.put(f"default/landing/{name}/{path}", data)
        await lake.close()

    asyncio.run(put())
    return f"az://millrace/default/landing/{name}/"


def test_no_s3_runs(azure_stack: Stack) -> None:
    state = azure_stack.state
    assert set(state.processes) == {"nats", "mongo", "azurite"} | NEEDED
    assert "s3" not in state.urls


def test_a_folder_is_pushed_pulled_and_cached(azure_stack: Stack, catalog: Catalog, tmp_path: Path) -> None:
    root, wanted = tmp_path / "digits", FILES | {"big.bin": BIG}
    for path, data in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    catalog.create_dataset("digits")
    folder.write(root, Config("digits"))
    assert folder.run(root, Config("digits"), lambda it: it.sync("first")).version == 1
    folder.run(root, Config("digits"), lambda it: it.pull(1, tmp_path / "pulled"))
    assert read(tmp_path / "pulled") == wanted
    entry = catalog.cache("nfs-a", "digits", 1)

    def ready() -> dict[str, Any] | None:
        found = next(item for item in catalog.cache_entries()["items"] if item["id"] == entry["id"])
        return found if found["state"] == "READY" else None

    copy = Path(until("the cached copy", ready)["path"])
    assert {path: data for path, data in read(copy).items() if path in wanted} == wanted


def test_data_that_landed_in_a_container_becomes_a_version(azure_stack: Stack, catalog: Catalog) -> None:
    uri = land(azure_stack, "monday")
    catalog.create_dataset("scans")
    event = {"specversion": "1.0", "id": "monday", "source": "/etl", "type": "data.landed"}
    catalog.send_event({**event, "data": {"dataset": "scans", "uri": uri}})

    def ended() -> dict[str, Any] | None:
        return next((job for job in catalog.ingest_jobs()["items"] if job["state"] in {"COMPLETED", "FAILED"}), None)

    job = until("the job", ended)
    assert (job["dataset"], job["uri"], job["state"]) == ("scans", uri, "COMPLETED")
    assert catalog.version("scans", 1)["files"] == len(FILES)
