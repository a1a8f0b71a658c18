"""Killed at every point of a deployment, the service ends where it would have ended."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest

from millrace.bus.provision import Provisioner
from millrace.clock import SystemClock
from millrace.events import decode, encode

pytestmark = pytest.mark.servers

KILLED = [
    "P1.after",
    "P2.during",
    "P3.after",
    "P4.during",
    "P5.after",
    "P6.before",
    "P6.after",
    "P8.before",
    "P7.after",
]


class Lives:
    """`python -m serving`, started again whenever a failpoint has killed it."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.kills = 0
        self._environment = environment
        self._log = log

    async def run_until(self, there: Callable[[], bool], *, kills: int) -> None:
        """Live until `there` and at least `kills` times killed: a fact may be heard a moment before its step's kill."""
        deadline = SystemClock().monotonic() + 120
        while (code := await self._live(lambda: there() and self.kills >= kills, deadline)) == -signal.SIGKILL:
            self.kills += 1
        assert code == 0, self._said()

    async def _live(self, enough: Callable[[], bool], deadline: float) -> int:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "serving", env=self._environment, stdout=log, stderr=log
            )
        try:
            while process.returncode is None and not enough():
                assert SystemClock().monotonic() < deadline, self._said()
                await asyncio.sleep(0.05)
            if process.returncode is None:
                process.terminate()
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()

    def _said(self) -> str:
        return self._log.read_text()[-4_000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_at_every_point_the_end_is_the_same(
    service_settings: Any, kit: Any, tmp_path: Path, own_triton: Any
) -> None:
    settings, shared = service_settings
    await Provisioner(servers=shared.nats_url).run(once=True)
    environment = {
        "PATH": os.environ["PATH"],
        "MILLRACE_NATS_URL": shared.nats_url,
        "MILLRACE_S3_ENDPOINT": shared.s3_endpoint,
        "MILLRACE_S3_BUCKET": shared.s3_bucket,
        "MILLRACE_S3_ACCESS_KEY_FILE": str(shared.s3_access_key_file),
        "MILLRACE_S3_SECRET_KEY_FILE": str(shared.s3_secret_key_file),
        "MILLRACE_SERVING_PORT": "0",
        "MILLRACE_SERVING_MONGO_URI_FILE": str(settings.mongo_uri_file),
        "MILLRACE_SERVING_MONGO_DATABASE": settings.mongo_database,
        "MILLRACE_SERVING_TOKEN_FILE": str(kit.secret(tmp_path, "token", "none")),
        "MILLRACE_SERVING_TRITON_HTTP": settings.triton_http,
        "MILLRACE_SERVING_TRITON_GRPC": settings.triton_grpc,
        "MILLRACE_SERVING_REPOSITORY": str(settings.repository),
        "MILLRACE_SERVING_DRAIN_SECONDS": "0.1",
        "MILLRACE_FAILPOINTS": ";".join(f"deploy.{point}=kill@{2 if point < 'P7' else 1}" for point in KILLED),
        "MILLRACE_FAILPOINTS_STATE": str(tmp_path / "hits"),
    }
    connection = await nats.connect(shared.nats_url)
    heard: dict[str, Any] = {}

    async def hear(message: Any) -> None:
        event = decode(message.data, subject=message.subject)
        heard[event.id] = event

    await connection.subscribe("evt.deployment.>", cb=hear)
    store = kit.a_store(shared)
    for leftover in own_triton.repository.glob("*.v*"):  # collecting them would meet the failpoints too
        shutil.rmtree(leftover)
    name, serving = kit.a_name(), Lives(environment, tmp_path / "serving.log")

    def said(kind: str, revision: int) -> bool:
        facts = ((event.type, event.data.revision) for event in heard.values() if event.data.deployment == name)
        return (kind, revision) in facts

    for revision in (1, 2):
        digest = await kit.put_package(store, kit.a_package(kit.a_model(revision)))
        spec = kit.a_spec(deployment=name, model=name, revision=revision, version=revision, digest=digest)
        event = kit.a_request(spec)
        await connection.jetstream().publish(event.bus_subject, encode(event), headers={"Nats-Msg-Id": event.id})
        await serving.run_until(partial(said, "deployment.ready", revision), kills=(0, len(KILLED) - 2)[revision - 1])
    await serving.run_until(partial(said, "deployment.retired", 1), kills=len(KILLED))
    await store.close()
    await connection.close()
    facts = [(event.type, event.data.revision) for event in heard.values() if event.data.deployment == name]
    for fact in (("deployment.ready", 1), ("deployment.ready", 2), ("deployment.retired", 1)):
        assert facts.count(fact) == 1, facts
    assert ("deployment.failed", 2) not in facts
    assert serving.kills == len(KILLED)
