"""The catalog as a process of its own: ready, killed at every point of a commit, back, and nothing lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from millrace.datasets.push import push

from .conftest import fresh_broker, until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

POLICY = "on: dataset.committed\ndo:\n  - train: {component: classifier, site: nfs-a}\n"


class Process:
    """One life after the other of `python -m catalog`."""

    def __init__(self, environment: dict[str, str], port: int, token: str, output: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._environment = environment
        self._token = token
        self._output = output
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, failpoints: str = "") -> None:
        with self._output.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "catalog", env={**self._environment, "MILLRACE_FAILPOINTS": failpoints},
                stdout=log, stderr=log,
            )  # fmt: skip
        await until(self.ready, 40)

    async def ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._output.read_text()[-3_000:]
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self.url}/readyz")).status_code == 200
        return False

    async def call(self, method: str, path: str, **options) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._token}", **options.pop("headers", {})}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20) as client:
            return await client.request(method, path, **options)

    async def died(self) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 20)

    async def stop(self) -> int:
        if self._process is None or self._process.returncode is not None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 20)


def _environment(parts, nats_url: str, port: int) -> dict[str, str]:
    settings, shared = parts.settings, parts.shared
    own = {
        "PORT": port,
        "MONGO_URI_FILE": settings.mongo_uri_file,
        "MONGO_DATABASE": settings.mongo_database,
        "PEPPER_FILE": settings.pepper_file,
        "BOOTSTRAP_FILE": settings.bootstrap_file,
    }
    common = {
        "NATS_URL": nats_url,
        "S3_ENDPOINT": shared.s3_endpoint,
        "S3_BUCKET": shared.s3_bucket,
        "S3_REGION": shared.s3_region,
        "S3_ACCESS_KEY_FILE": shared.s3_access_key_file,
        "S3_SECRET_KEY_FILE": shared.s3_secret_key_file,
    }
    named = {f"MILLRACE_CATALOG_{name}": str(value) for name, value in own.items()}
    named |= {f"MILLRACE_{name}": str(value) for name, value in common.items()}
    return {**os.environ, **named}


@pytest.fixture
async def process(parts, nats_server, tmp_path) -> AsyncIterator[Process]:
    await fresh_broker(nats_server.url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = (tmp_path / "owner.token").read_text()
    made = Process(_environment(parts, nats_server.url, port), port, token, tmp_path / "catalog.log")
    yield made
    await made.stop()


async def test_it_comes_up_and_goes_down_in_grace(process) -> None:
    await process.start()
    assert (await process.call("GET", "/v1/datasets")).json() == {"items": [], "next": None}
    assert await process.stop() == 0


@pytest.mark.parametrize("point", ["D5.before", "D5.after", "D6.before", "D6.after", "D8.before", "D9.after"])
async def test_killed_during_a_commit_one_version_and_one_run_come_of_it(process, parts, tmp_path, point: str) -> None:
    await process.start(f"commit.{point}=kill")
    await process.call("PUT", "/v1/datasets/digits", json={})
    await process.call("PUT", "/v1/policies/train", content=POLICY)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one")
    pushed = await push(tmp_path / "tree", parts.store, project="default")
    body = {
        "manifest": pushed.manifest_id, "tree_root": pushed.tree_root, "files": 1, "bytes": 3, "parent": None,
    }  # fmt: skip
    key = {"idempotency-key": "k"}
    with contextlib.suppress(httpx.TransportError):
        await process.call("POST", "/v1/datasets/digits/commits", json=body, headers=key)
    assert await process.died() == -signal.SIGKILL
    await process.start()
    answer = await process.call("POST", "/v1/datasets/digits/commits", json=body, headers=key)
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["version"] == 1

    async def runs():
        return (await process.call("GET", "/v1/runs")).json()["items"]

    async def delivered() -> bool:
        return await parts.catalog.documents.log.count({"delivered": False}) == 0

    await until(runs)
    await until(delivered, 60)  # what the dead process had fetched comes again after the acknowledgement period
    assert len(await runs()) == 1
    versions = (await process.call("GET", "/v1/datasets/digits/versions")).json()["items"]
    assert [version["version"] for version in versions] == [1]

    async def chained() -> bool:
        rows = (await process.call("GET", "/v1/audit")).json()["items"]
        return all(row["position"] for row in rows)

    await until(chained)
    assert (await process.call("GET", "/v1/fsck?gather=false")).json()["violations"] == []
