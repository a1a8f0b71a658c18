"""A nats-server of one's own per test: to be killed, wiped and started again."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from millrace.bus import Bus
from millrace.bus.provision import Provisioner
from millrace.bus.reconcile import reconcile
from millrace.bus.topology import CONSUMERS, STREAMS
from millrace_stack.ports import free_ports
from millrace_stack.process import spawn, stop
from millrace_stack.servers import until_ready
from millrace_stack.servers.nats import NatsServer


class Broker:
    """One server: start, kill -9, wipe."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(folder / "nats", free_ports(1)[0], folder / "nats.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> None:
        process = self._process = spawn(self.server.command())
        until_ready(self.server.why_not_ready, alive=lambda: process.poll() is None, seconds=20)

    def kill(self) -> None:
        if self._process is not None:
            stop(self._process, grace=0)
            self._process = None

    def wipe(self) -> None:
        shutil.rmtree(self.server.folder / "store", ignore_errors=True)


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A running nats-server with an empty store and no users."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-bus-"))
    server = Broker(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def raw(broker: Broker) -> AsyncIterator[Any]:
    """A bare connection with every right, to look behind the scenes."""
    connection = await nats.connect(broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    yield connection
    await connection.close()


@pytest.fixture
async def provisioned(broker: Broker, raw: Any) -> Broker:
    """The broker with streams and consumers as the topology says."""
    report = await reconcile(raw, STREAMS.values(), CONSUMERS.values())
    assert report.contradictions == []
    return broker


@pytest.fixture
async def provisioner(broker: Broker) -> AsyncIterator[Provisioner]:
    """The provisioner, running beside the test."""
    provisioner = Provisioner(servers=broker.url)
    task = asyncio.create_task(provisioner.run())
    yield provisioner
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def buses() -> AsyncIterator[Callable[..., Bus]]:
    """Builds buses that are stopped at the end."""
    built: list[Bus] = []

    def build(**options: Any) -> Bus:
        bus = Bus(**options)
        built.append(bus)
        return bus

    yield build
    for bus in built:
        await bus.stop()
