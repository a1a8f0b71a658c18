"""The whole monitor on real servers: a broker of its own per test, a fresh database, a fresh bucket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import numpy as np
import pytest
import uvicorn
from blake3 import blake3
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from nats.js.api import ConsumerConfig, DeliverPolicy

from drift_monitor import bootstrap
from drift_monitor.adapters.png import PngPainter
from drift_monitor.domain.pictures import pixels
from drift_monitor.settings import DriftMonitorSettings
from millrace.auth import Principal
from millrace.bus.provision import Provisioner
from millrace.clock import SystemClock
from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.commit import Commit
from millrace.datasets.manifest import PackRef
from millrace.datasets.stored import save_commit, save_manifest
from millrace.errors import Unauthenticated
from millrace.events import AnyEvent, DeploymentReady, build, decode, encode
from millrace.inference import InferenceBatch, batch_subject, encode_batch, message_id
from millrace.objects.s3 import S3ObjectStore
from millrace.runtime import listen
from millrace.sealing import ProjectKey, SealedStore
from millrace.settings import SharedSettings
from millrace_stack.ports import free_ports
from millrace_stack.process import spawn, stop
from millrace_stack.servers import until_ready
from millrace_stack.servers.nats import NatsServer

from . import builders

DEADLINE = 30.0
LEAKY = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
"""For tests that stop a service in the middle of its work: PyMongo 4.20 leaves the socket of a call that is cancelled
to the garbage collector. A real service ends its process then."""


class Broker:
    """One nats-server: start, kill -9, wipe."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(folder / "nats", free_ports(1)[0], folder / "nats.log")
        self._process: Any = None

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> None:
        self._process = spawn(self.server.command())
        until_ready(self.server.why_not_ready, alive=lambda: self._process.poll() is None, seconds=20)

    def kill(self) -> None:
        if self._process is not None:
            stop(self._process, grace=0)
            self._process = None

    def wipe(self) -> None:
        shutil.rmtree(self.server.folder / "store", ignore_errors=True)


@pytest.fixture
def broker() -> Iterator[Broker]:
    folder = Path(tempfile.mkdtemp(prefix="millrace-drift-"))
    server = Broker(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


class FixedAuthenticator:
    """Tokens are names of roles."""

    async def authenticate(self, token: str) -> Principal:
        if token == "checker":
            return Principal("checker", "service", "*", frozenset({"owner"}))
        if token in {"viewer", "contributor"}:
            return Principal(token, "person", "default", frozenset({token}))
        if token == "stranger":
            return Principal("eve", "person", "other", frozenset({"owner"}))
        raise Unauthenticated("unknown")


@dataclass
class FakeCatalog:
    """What the monitor asks the catalog, on a real port. With a `key` the project is encrypted."""

    url: str = ""
    key: ProjectKey | None = None
    deployments: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/encryption")
        async def encryption() -> dict[str, bool]:
            return {"encrypted": self.key is not None, "settled": True}

        @app.get("/v1/encryption/key")
        async def key() -> dict[str, str]:
            assert self.key is not None
            return {"key": self.key.text}

        @app.get("/v1/deployments")
        async def deployments() -> dict[str, Any]:
            return {"items": self.deployments, "next": None}

        @app.get("/v1/models/{model}/versions/{version}")
        async def version(model: str, version: int) -> Any:
            found = self.versions.get((model, version))
            return found or JSONResponse({"code": "not-found"}, status_code=404)

        return app

    async def key_of(self, project: str) -> ProjectKey | None:
        """Return the key that the tests seal with."""
        assert project == "default"
        return self.key


@pytest.fixture
async def catalog() -> AsyncIterator[FakeCatalog]:
    fake = FakeCatalog()
    sock = listen("127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(fake.app(), log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    yield fake
    server.should_exit = True
    await task


@dataclass
class Stage:
    """A monitor that can be started and stopped, and the world around it."""

    settings: DriftMonitorSettings
    shared: SharedSettings
    store: S3ObjectStore
    raw: Any
    catalog: FakeCatalog
    monitor: bootstrap.Monitor | None = None
    sequences: dict[str, int] = field(default_factory=dict)
    _exit: contextlib.AsyncExitStack | None = None

    async def start(self, *, wait: bool = True, **changes: Any) -> bootstrap.Monitor:
        """Start a monitor; by default wait until it is ready, as a stop in the middle of a connect leaks sockets."""
        settings = self.settings.model_copy(update=changes)
        self.monitor = bootstrap.build(settings, self.shared, authenticator=FixedAuthenticator())
        self._exit = contextlib.AsyncExitStack()
        await self._exit.enter_async_context(self.monitor.runtime.running())
        if wait:
            await self.until("ready", self.ready_now)
        return self.monitor

    async def ready_now(self) -> bool:
        """Whether the monitor waits for nothing, and the catalog was asked."""
        assert self.monitor is not None
        return not await self.monitor.runtime.reasons()

    async def stop(self) -> None:
        if self._exit is not None:
            await self._exit.aclose()
            self._exit = None

    async def restart(self, **changes: Any) -> bootstrap.Monitor:
        await self.stop()
        return await self.start(**changes)

    def http(self, token: str = "contributor") -> httpx.AsyncClient:
        assert self.monitor is not None
        transport = httpx.ASGITransport(app=self.monitor.app)
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=transport, base_url="http://monitor", headers=headers)

    async def get(self, path: str, token: str = "contributor", **params: Any) -> Any:
        async with self.http(token) as client:
            answer = await client.get(path, params=params)
            assert answer.status_code == 200, answer.text
            return answer.json()

    async def commit(self, images: np.ndarray | None = None) -> str:
        """Store a dataset commit that holds these images as PNG files (or one other file)."""
        files = [PngPainter().paint(pixels(image)) for image in images] if images is not None else [b"other"]
        builder = ManifestBuilder()
        pack = b"".join(files)
        ordinal = builder.pack(PackRef(blake3(pack).hexdigest(), len(pack)))
        offset = 0
        for number, raw in enumerate(files):
            digest = blake3(raw).digest()
            builder.add(
                f"train/a/{number:04d}.png", digest, len(raw), mode=0o644, mtime_ns=0, pack=ordinal, offset=offset
            )
            offset += len(raw)
        manifest = builder.build()
        await save_manifest(SealedStore(self.store, self.catalog), "default", manifest)
        made = Commit(
            root=manifest.tree_root,
            manifest=manifest.id,
            files=manifest.files,
            bytes=manifest.bytes,
            author="test",
            time=SystemClock().now(),
        )
        return await save_commit(SealedStore(self.store, self.catalog), "default", made)

    async def reference(self, **changes: Any) -> str:
        made = builders.reference(**changes)
        raw = made.to_bytes()
        key = f"default/references/{blake3(raw).hexdigest()}"
        await self.store.put(key, raw, create_only=True)
        return key

    def ready(self, *, reference: str | None, commit: str, revision: int = 1, **changes: Any) -> AnyEvent:
        found: dict[str, Any] = {
            "deployment": "pets",
            "revision": revision,
            "model": "pets",
            "version": revision,
            "digest": builders.DIGEST,
            "dataset": "pets",
            "commit": commit,
            "reference": reference,
            "backend_model": f"pets.v{revision}",
            "route_epoch": revision,
            "golden_error": 0.0,
            "seconds": 1.0,
        }
        data = DeploymentReady(**{**found, **changes})
        return build(
            data,
            source="/millrace/serving",
            subject=data.deployment,
            project="default",
            sequence=revision,
            clock=SystemClock(),
        )

    async def publish(self, event: AnyEvent) -> None:
        headers = {"Nats-Msg-Id": event.id}
        await self.raw.jetstream().publish(event.bus_subject, encode(event), headers=headers)

    async def send(self, batch: InferenceBatch, *, fresh_id: bool = False) -> None:
        """Publish a batch as serving does; with `fresh_id` the broker cannot know that it is a repetition."""
        header = batch.header
        headers = {} if fresh_id else {"Nats-Msg-Id": message_id(header)}
        subject = batch_subject(header.project, header.deployment)
        await self.raw.jetstream().publish(subject, encode_batch(batch), headers=headers)

    async def traffic(self, images: np.ndarray, *, boot: str = "boot-a", size: int = 40, **changes: Any) -> None:
        """Send rows in batches, numbered on from what this boot sent before."""
        for start in range(0, len(images), size):
            part = images[start : start + size]
            first = self.sequences.get(boot, 0)
            self.sequences[boot] = first + len(part)
            await self.send(builders.batch(part, first=first, boot=boot, **changes))

    async def events(self, *types: str) -> list[AnyEvent]:
        """Return the stored events of these types, in order."""
        stream = self.raw.jetstream()
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        subscription = await stream.pull_subscribe("evt.>", stream="EVENTS", config=config)
        found: list[AnyEvent] = []
        with contextlib.suppress(TimeoutError):
            while True:
                messages = await subscription.fetch(100, timeout=0.3)
                found += [decode(message.data, subject=message.subject) for message in messages]
        await subscription.unsubscribe()
        return [event for event in found if event.type in types]

    async def until(self, what: str, look: Callable[[], Awaitable[Any]], seconds: float = DEADLINE) -> Any:
        """Poll until `look` gives something."""
        clock = SystemClock()
        deadline = clock.monotonic() + seconds
        while not (found := await look()):
            if clock.monotonic() > deadline:
                reasons = await self.monitor.runtime.reasons() if self.monitor else {}
                raise AssertionError(f"not within {seconds} s: {what} ({reasons})")
            await asyncio.sleep(0.05)
        return found

    async def counted(self, rows: int, deployment: str = "pets", *, seconds: float = DEADLINE) -> Any:
        """Wait until a deployment has counted this many rows and closed what is full; return its checkpoint."""
        assert self.monitor is not None
        kept = self.monitor.kept

        async def look() -> Any:
            state = await kept.checkpoints.get("default", deployment)
            return state if state and state.counted >= rows and not state.closing else None

        return await self.until(f"{rows} rows counted", look, seconds)

    async def fsck(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/v1/fsck", "checker"))["violations"]
        return found


def secret(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
async def stage(  # noqa: PLR0917 - fixtures
    broker: Broker,
    mongo_server: Any,
    mongo_database_name: str,
    s3_server: Any,
    s3_bucket: str,
    catalog: FakeCatalog,
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    await asyncio.wait_for(Provisioner(servers=broker.url).run(once=True), 20)
    settings = DriftMonitorSettings(
        mongo_uri_file=secret(tmp_path, "mongo", mongo_server.uri),
        mongo_database=mongo_database_name,
        token_file=secret(tmp_path, "token", "mlr_own"),
        window_rows=50,
        pace=0.01,
        queue_size=40,
        queue_least=4,
        gather_windows=4,
        quiet_windows=2,
        lease_seconds=2,
    )
    shared = SharedSettings(
        nats_url=broker.url,
        catalog_url=catalog.url,
        s3_endpoint=s3_server.endpoint,
        s3_bucket=s3_bucket,
        s3_region=s3_server.region,
        s3_access_key_file=secret(tmp_path, "access", s3_server.access_key),
        s3_secret_key_file=secret(tmp_path, "secret", s3_server.secret_key),
    )
    store = S3ObjectStore(
        endpoint=s3_server.endpoint,
        bucket=s3_bucket,
        region=s3_server.region,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    raw = await nats.connect(broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    made = Stage(settings, shared, store, raw, catalog)
    yield made
    await made.stop()
    await raw.close()
    await store.close()
    gc.collect()
