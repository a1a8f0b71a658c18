"""What serving's tests share: tiny models, packages, and the whole service on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import numpy as np
import onnx
import pytest
import uvicorn
from blake3 import blake3
from onnx import TensorProto, helper, numpy_helper

from millrace.auth import Principal
from millrace.bus.provision import Provisioner
from millrace.clock import SystemClock
from millrace.errors import Unauthenticated
from millrace.events import AnyEvent, DeploymentRequested, build, decode, encode
from millrace.objects.s3 import S3ObjectStore
from millrace.packages import package_digest
from millrace.runtime import listen
from millrace.settings import SharedSettings
from millrace_stack import triton_env
from millrace_stack.ports import free_ports
from millrace_stack.process import spawn, stop
from millrace_stack.servers import until_ready
from millrace_stack.servers.triton import TritonServer
from serving import bootstrap
from serving.domain.endpoint import Spec
from serving.settings import ServingSettings

SHAPE = (8, 8, 1)
CLASSES = 10


@dataclass(frozen=True)
class Model:
    """A softmax over a random linear map, as ONNX and as numpy."""

    onnx: bytes
    weights: np.ndarray

    def __call__(self, images: np.ndarray) -> np.ndarray:
        logits = images.reshape(len(images), -1) @ self.weights
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = exp / exp.sum(axis=1, keepdims=True)
        return probabilities


def a_model(seed: int = 0) -> Model:
    weights = np.random.default_rng(seed).normal(size=(64, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(weights, "weights")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    onnx.checker.check_model(proto)
    return Model(proto.SerializeToString(), weights)


def a_package(model: Model, *, offset: float = 0.0, **changes: bytes) -> dict[str, bytes]:
    """The files of a package; `offset` spoils the golden answer."""
    images = np.random.default_rng(1).random((2, *SHAPE), dtype=np.float32)
    signature = {
        "inputs": [{"name": "image", "dtype": "FP32", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": "probabilities", "dtype": "FP32", "shape": [-1, CLASSES]}],
    }
    golden = {"inputs": images.tolist(), "outputs": (model(images) + offset).tolist(), "tolerance": 1e-4}
    files = {
        "model.onnx": model.onnx,
        "model.keras": b"never opened",
        "package.json": json.dumps({"framework": "keras", "signature": signature}).encode(),
        "golden.json": json.dumps(golden).encode(),
    }
    return files | {name.replace("_", "."): content for name, content in changes.items()}


def digest_of(files: dict[str, bytes]) -> str:
    return package_digest((name, blake3(data).hexdigest(), len(data)) for name, data in files.items())


async def put_package(store: Any, files: dict[str, bytes], project: str = "default") -> str:
    digest = digest_of(files)
    for name, data in files.items():
        await store.put(f"{project}/models/{digest}/{name}", data)
    return digest


def a_spec(**changes: Any) -> Spec:
    values: dict[str, Any] = {
        "project": "default",
        "deployment": "digits",
        "revision": 1,
        "model": "digits",
        "version": 1,
        "digest": "a" * 64,
        "prefix": f"default/models/{'a' * 64}",
        "dataset": "digits",
        "commit": "c" * 64,
    }
    values |= changes
    if "digest" in changes and "prefix" not in changes:
        values["prefix"] = f"{values['project']}/models/{values['digest']}"
    return Spec(**values)


def a_request(spec: Spec) -> Any:
    data = DeploymentRequested(
        deployment=spec.deployment,
        revision=spec.revision,
        model=spec.model,
        version=spec.version,
        desired="present" if spec.present else "absent",
        digest=spec.digest,
        prefix=spec.prefix,
        dataset=spec.dataset,
        commit=spec.commit,
    )
    return build(
        data,
        source="/millrace/catalog",
        subject=spec.deployment,
        project=spec.project,
        sequence=spec.revision,
        clock=SystemClock(),
    )


OWNER, APPLICATION, VIEWER, STRANGER = "owner", "application", "viewer", "stranger"
PRINCIPALS = {
    OWNER: Principal("owner", "person", "*", frozenset({"owner"})),
    APPLICATION: Principal("app", "token", "default", frozenset({"application"})),
    VIEWER: Principal("viewer", "person", "default", frozenset({"viewer"})),
    STRANGER: Principal("stranger", "person", "other", frozenset({"owner"})),
}


class KnownPrincipals:
    """An authenticator whose tokens are the names above."""

    async def authenticate(self, token: str) -> Principal:
        if token not in PRINCIPALS:
            raise Unauthenticated("no such token")
        return PRINCIPALS[token]


def bearer(token: str = APPLICATION) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def eventually(check: Callable[[], Awaitable[Any]], *, seconds: float = 20.0, why: str = "") -> Any:
    """Poll until `check` gives something true."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while True:
        found = await check()
        if found:
            return found
        assert clock.monotonic() < deadline, f"not within {seconds} s: {why or check}"
        await asyncio.sleep(0.05)


@dataclass
class Served:
    """A running service and ways to talk to it."""

    url: str
    built: bootstrap.Serving
    store: S3ObjectStore
    connection: Any
    client: httpx.AsyncClient
    heard: list[AnyEvent] = field(default_factory=list)

    async def publish(self, event: AnyEvent) -> None:
        jetstream = self.connection.jetstream()
        await jetstream.publish(event.bus_subject, encode(event), headers={"Nats-Msg-Id": event.id})

    async def deploy(self, model: Model, *, deployment: str, revision: int = 1, version: int = 1, **more: Any) -> Spec:
        """Put a package and ask for its deployment; returns what was asked for."""
        digest = await put_package(self.store, a_package(model, **more))
        spec = a_spec(deployment=deployment, model=deployment, revision=revision, version=version, digest=digest)
        await self.publish(a_request(spec))
        return spec

    async def event(self, kind: str, deployment: str, revision: int, seconds: float = 30.0) -> Any:
        """Wait for an event of a deployment's revision."""

        async def find() -> Any:
            for event in self.heard:
                data = event.data
                if event.type == kind and data.deployment == deployment and data.revision == revision:
                    return event
            return None

        return await eventually(find, seconds=seconds, why=f"{kind} {deployment} {revision}")

    async def endpoint(self, deployment: str) -> Any:
        answer = await self.client.get(f"/v1/endpoints/{deployment}", headers=bearer(OWNER))
        return answer.json()

    async def infer(self, deployment: str, images: np.ndarray, **more: Any) -> httpx.Response:
        return await self.client.post(
            f"/v2/models/{deployment}/infer",
            json=a_question(images),
            headers=bearer() | more.pop("headers", {}),
            **more,
        )


def a_question(images: np.ndarray, **more: Any) -> dict[str, Any]:
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(images.shape),
        "data": images.astype(float).reshape(-1).tolist(),
    }
    return {"inputs": [tensor], **more}


def some_images(rows: int = 1, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, *SHAPE), dtype=np.float32)


def a_name(prefix: str = "d") -> str:
    """A fresh name, since servers are shared by all tests of a session."""
    return f"{prefix}-{secrets.token_hex(4)}"


@contextlib.asynccontextmanager
async def served_app(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port as in production; yields its URL."""
    sock = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[sock]))

    async def started() -> bool:
        return bool(server.started) or task.done()

    await eventually(started, why="uvicorn")
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        sock.close()


def secret(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


class MortalTriton:
    """A Triton of its own for tests of the whole service, which owns its model repository; it can be killed."""

    def __init__(self, folder: Path) -> None:
        http, grpc, metrics = free_ports(3)
        self.repository = folder / "repository"
        environment = triton_env.ensure(folder)
        self._server = TritonServer(
            folder / "run", (http, grpc, metrics), folder / "triton.log", environment, self.repository
        )
        self.http, self.grpc = self._server.http, self._server.grpc
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it, from the main thread: it dies with the thread that started it."""
        self._process = spawn(self._server.command())

    def wait(self) -> None:
        """Wait until it answers."""
        process = self._process
        assert process is not None
        until_ready(self._server.why_not_ready, alive=lambda: process.poll() is None, seconds=60)

    def kill(self) -> None:
        if self._process is not None:
            stop(self._process, grace=0)
            self._process = None

    def close(self) -> None:
        self.kill()
        self._server.clear()


@pytest.fixture(scope="session")
def own_triton(servers_folder: Path) -> Iterator[MortalTriton]:
    triton = MortalTriton(servers_folder / "serving-triton")
    triton.spawn()
    triton.wait()
    yield triton
    triton.close()


@pytest.fixture
def service_settings(  # noqa: PLR0917
    tmp_path: Path,
    mongo_server: Any,
    mongo_database_name: str,
    own_triton: MortalTriton,
    s3_server: Any,
    s3_bucket: str,
    nats_server: Any,
) -> tuple[ServingSettings, SharedSettings]:
    settings = ServingSettings(
        mongo_uri_file=secret(tmp_path, "mongo", mongo_server.uri),
        mongo_database=mongo_database_name,
        triton_http=own_triton.http,
        triton_grpc=own_triton.grpc,
        repository=own_triton.repository,
        spool=tmp_path / "spool",
        drain_seconds=0.3,
    )
    shared = SharedSettings(
        nats_url=nats_server.url,
        s3_endpoint=s3_server.endpoint,
        s3_bucket=s3_bucket,
        s3_access_key_file=secret(tmp_path, "access", s3_server.access_key),
        s3_secret_key_file=secret(tmp_path, "secret", s3_server.secret_key),
    )
    return settings, shared


def a_store(shared: SharedSettings) -> S3ObjectStore:
    assert shared.s3_access_key_file is not None
    assert shared.s3_secret_key_file is not None
    return S3ObjectStore(
        endpoint=shared.s3_endpoint,
        bucket=shared.s3_bucket,
        region=shared.s3_region,
        access_key=shared.s3_access_key_file.read_text(),
        secret_key=shared.s3_secret_key_file.read_text(),
    )


@contextlib.asynccontextmanager
async def running_service(settings: ServingSettings, shared: SharedSettings) -> AsyncIterator[Served]:
    """Provision the broker, run the service, and listen to what it says."""
    await Provisioner(servers=shared.nats_url).run(once=True)
    connection = await nats.connect(shared.nats_url)
    heard: list[AnyEvent] = []

    async def hear(message: Any) -> None:
        heard.append(decode(message.data, subject=message.subject))

    await connection.subscribe("evt.deployment.>", cb=hear)
    built = bootstrap.build(settings, shared, authenticator=KnownPrincipals())
    store = a_store(shared)
    try:
        async with (
            served_app(built.app) as url,
            httpx.AsyncClient(base_url=url, timeout=30.0) as client,
        ):
            yield Served(url, built, store, connection, client, heard)
    finally:
        await connection.close()
        await store.close()


@pytest.fixture
async def service(service_settings: tuple[ServingSettings, SharedSettings]) -> AsyncIterator[Served]:
    async with running_service(*service_settings) as running:
        yield running


@pytest.fixture(scope="session")
def kit() -> Any:
    """The builders of this file, for tests that are imported without a package."""
    import sys

    return sys.modules[__name__]


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
