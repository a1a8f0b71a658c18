"""The data plane before a real Triton: the status table, unchanged clients, and hostile requests."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.clock import SystemClock
from millrace.testing.objects import InMemoryObjectStore
from serving.adapters.packages import PackageFetcher
from serving.adapters.repository_folder import FolderRepository
from serving.adapters.triton_grpc import TritonServer
from serving.adapters.upstream import Upstream
from serving.application.capture import Ring
from serving.application.gateway import Gateway
from serving.application.world import World
from serving.domain.endpoint import Spec
from serving.domain.routes import Route, RouteTable
from serving.entrypoints.oip import OipApp

pytestmark = [pytest.mark.servers]

VERSION = 7
DEPLOYMENT = "digits"


@pytest.fixture(scope="module")
def loaded(triton_server: Any, kit: Any) -> Spec:
    """One model that stays loaded for this file; version 7, so that it cannot be mistaken for Triton's 1."""
    import sys

    kit = next(
        module for name, module in sys.modules.items() if getattr(module, "a_package", None) and "conftest" in name
    )
    files = kit.a_package(kit.a_model())
    model = f"m-{secrets.token_hex(4)}"
    spec: Spec = kit.a_spec(model=model, deployment=DEPLOYMENT, version=VERSION, digest=kit.digest_of(files))

    async def bring_up() -> None:
        store = InMemoryObjectStore()
        await kit.put_package(store, files)
        fetcher = PackageFetcher(store, max_bytes=1 << 30)
        repository = FolderRepository(triton_server.repository, fetcher, max_batch_size=64)
        repository.prepare()
        await repository.install(spec)
        server = TritonServer(triton_server.grpc, load_seconds=60)
        await server.load(spec.backend)
        await server.close()

    asyncio.run(bring_up())
    return spec


class Plane:
    """The data plane alone, with a table by hand."""

    def __init__(self, spec: Spec, address: str, kit: Any) -> None:
        clock = SystemClock()
        self.world, self.ring, self.spec = World(), Ring(100_000_000), spec
        self.upstream = Upstream(address, max_in_flight=64, max_body_bytes=64 << 20)
        self.aways = 0
        self.gateway = Gateway(
            world=self.world, data=self.upstream, ring=self.ring, clock=clock, seconds=10.0, on_away=self._away
        )
        self.app = OipApp(
            gateway=self.gateway,
            world=self.world,
            authenticator=kit.KnownPrincipals(),
            clock=clock,
            max_body_bytes=1 << 20,
        )
        missing = kit.a_spec(deployment="missing", model="missing")
        routes = [
            Route("default", DEPLOYMENT, 3, (spec.arm(),)),
            Route("default", "missing", 1, (missing.arm(),)),
            Route("default", "retired", 2, ()),
        ]
        self.world.table = RouteTable({(route.project, route.deployment): route for route in routes})
        self.world.table_read = self.world.server_answers = True

    def _away(self) -> None:
        self.aways += 1


@pytest.fixture
async def plane(loaded: Spec, triton_server: Any, kit: Any) -> AsyncIterator[Plane]:
    plane = Plane(loaded, triton_server.http, kit)
    yield plane
    await plane.upstream.close()


@pytest.fixture
async def url(plane: Plane, kit: Any) -> AsyncIterator[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await plane.app(scope, receive, send)

    async with kit.served_app(app) as address:
        yield address


@pytest.fixture
async def client(url: str, kit: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, headers=kit.bearer(), timeout=20.0) as client:
        yield client


def binary_question(images: np.ndarray, *, as_binary: bool = True, **more: Any) -> tuple[bytes, int]:
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": as_binary}, **more}).encode()
    return head + images.tobytes(), len(head)


INFER = f"/v2/models/{DEPLOYMENT}/infer"


async def test_json_in_json_out(client: httpx.AsyncClient, plane: Plane, kit: Any) -> None:
    images = kit.some_images(2)
    answer = await client.post(INFER, json=kit.a_question(images, id="my-id"))
    body = answer.json()
    assert answer.status_code == 200
    assert (body["id"], body["model_name"], body["model_version"]) == ("my-id", DEPLOYMENT, str(VERSION))
    np.testing.assert_allclose(np.reshape(body["outputs"][0]["data"], (2, 10)), kit.a_model()(images), atol=1e-5)
    assert answer.headers["x-prediction-id"] == "my-id"
    assert answer.headers["x-model-version"] == f"{plane.spec.model}@{VERSION}"
    assert answer.headers["x-route-epoch"] == "3"
    assert "gateway;dur=" in answer.headers["server-timing"]
    (captured,) = plane.ring.take()
    assert (captured.prediction, captured.arm.version) == ("my-id", VERSION)


async def test_binary_in_binary_out(client: httpx.AsyncClient, kit: Any) -> None:
    images = kit.some_images(2)
    body, head = binary_question(images)
    answer = await client.post(INFER, content=body, headers={"Inference-Header-Content-Length": str(head)})
    size = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.content[:size])
    assert (document["model_name"], document["model_version"]) == (DEPLOYMENT, str(VERSION))
    values = np.frombuffer(answer.content[size:], dtype="<f4").reshape(2, 10)
    np.testing.assert_allclose(values, kit.a_model()(images), atol=1e-5)
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_a_used_or_unusable_id_gets_a_fresh_one(client: httpx.AsyncClient, kit: Any) -> None:
    images = kit.some_images()
    first = await client.post(INFER, json=kit.a_question(images, id="twice"))
    again = await client.post(INFER, json=kit.a_question(images, id="twice"))
    odd = await client.post(INFER, json=kit.a_question(images, id="späte Grüße/1"))
    none = await client.post(INFER, json=kit.a_question(images))
    ids = [answer.headers["x-prediction-id"] for answer in (first, again, odd, none)]
    assert ids[0] == "twice"
    assert len(set(ids)) == 4
    assert again.json()["id"] == "twice"


async def test_reading_about_a_model_uses_the_deployments_names(client: httpx.AsyncClient, plane: Plane) -> None:
    base = f"/v2/models/{DEPLOYMENT}"
    for path in (base, f"{base}/versions/{VERSION}"):
        document = (await client.get(path)).json()
        assert (document["name"], document["versions"]) == (DEPLOYMENT, [str(VERSION)])
        assert document["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    assert (await client.get(f"{base}/config")).json()["name"] == DEPLOYMENT
    stats = (await client.get(f"{base}/versions/{VERSION}/stats")).json()["model_stats"][0]
    assert (stats["name"], stats["version"]) == (DEPLOYMENT, str(VERSION))
    for path in (f"{base}/ready", f"{base}/versions/{VERSION}/ready"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"ready": True})


async def test_health_is_anonymous_and_everything_else_is_not(url: str, plane: Plane) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        assert (await client.get("/v2/health/ready")).json() == {"ready": True}
        plane.world.server_answers = False
        assert (await client.get("/v2/health/ready")).status_code == 503
        paths = ["/v2", "/v2/", f"/v2/models/{DEPLOYMENT}", f"/v2/models/{DEPLOYMENT}/ready", "/v2/nowhere"]
        paths += [f"/v2/models/{DEPLOYMENT}/config", f"/v2/models/{DEPLOYMENT}/stats"]
        for answer in [await client.get(path) for path in paths] + [await client.post(INFER, content=b"{}")]:
            assert answer.status_code == 401
            assert set(answer.json()) == {"error"}
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [
        ("nobody", INFER, 401),
        ("viewer", INFER, 403),
        ("stranger", INFER, 404),
        ("stranger", f"{INFER}?project=default", 404),
        ("application", f"{INFER}?project=other", 404),
        ("owner", INFER, 200),
        ("owner", f"{INFER}?project=default", 200),
        ("owner", f"{INFER}?project=other", 404),
    ],
)
async def test_who_may_infer(client: httpx.AsyncClient, kit: Any, token: str, path: str, status: int) -> None:
    answer = await client.post(path, json=kit.a_question(kit.some_images()), headers=kit.bearer(token))
    assert answer.status_code == status, answer.text


async def test_capture_is_switched_off_by_those_who_may(client: httpx.AsyncClient, plane: Plane, kit: Any) -> None:
    question, off = kit.a_question(kit.some_images()), {"x-millrace-capture": "off"}
    assert (await client.post(INFER, json=question, headers=off)).status_code == 403
    assert (await client.post(INFER, json=question, headers=off | kit.bearer("owner"))).status_code == 200
    assert plane.ring.take() == []


def hostile(kit: Any) -> dict[str, tuple[bytes, dict[str, str], int]]:
    """Name → body, headers, status: the reference's table for inference requests."""
    images = kit.some_images(2)
    good = kit.a_question(images)
    tensor = good["inputs"][0]
    body, head = binary_question(images)

    def changed(**changes: Any) -> bytes:
        return json.dumps({"inputs": [tensor | changes]}).encode()

    def headed(length: Any) -> dict[str, str]:
        return {"Inference-Header-Content-Length": str(length)}

    return {
        "malformed JSON": (b"{bad", {}, 400),
        "empty": (b"", {}, 400),
        "array": (b"[]", {}, 400),
        "no inputs": (b"{}", {}, 400),
        "empty inputs": (b'{"inputs":[]}', {}, 400),
        "NUL": (b"\x00" * 10, {}, 400),
        "deep": (b"[" * 100_000, {}, 400),
        "count and shape differ": (changed(data=[1, 2]), {}, 400),
        "wrong name": (changed(name="nope"), {}, 400),
        "wrong dtype": (changed(datatype="INT32"), {}, 400),
        "unknown dtype": (changed(datatype="FP99"), {}, 400),
        "negative side": (changed(shape=[-1, 8, 8, 1]), {}, 400),
        "huge side": (changed(shape=[2**62, 8, 8, 1]), {}, 400),
        "no rows": (changed(shape=[0, 8, 8, 1], data=[]), {}, 400),
        "wrong rank": (changed(shape=[128]), {}, 400),
        "text data": (changed(data=["x"] * 128), {}, 400),
        "batch too large": (json.dumps(kit.a_question(kit.some_images(65))).encode(), {}, 400),
        "unknown output": (json.dumps(good | {"outputs": [{"name": "nope"}]}).encode(), {}, 400),
        "odd parameter": (json.dumps(good | {"parameters": {"x": [1]}}).encode(), {}, 400),
        "id is no text": (json.dumps(good | {"id": 5}).encode(), {}, 400),
        "shared memory": (changed(data=None, parameters={"shared_memory_region": "r"}), {}, 400),
        "short binary": (body[:-10], headed(head), 400),
        "head missing": (body, {}, 400),
        "head beyond body": (body, headed(len(body) + 1), 400),
        "head no number": (body, headed("abc"), 400),
        "head negative": (body, headed(-1), 400),
        "head within JSON": (body, headed(head - 3), 400),
        "too large": (b" " * (1 << 20) + b"{}", {}, 413),
        "damaged gzip": (b"\x1f\x8b" + b"x" * 20, {"content-encoding": "gzip"}, 400),
        "bomb": (gzip.compress(b" " * (50 << 20)), {"content-encoding": "gzip"}, 413),
        "unknown encoding": (b"{}", {"content-encoding": "br"}, 400),
    }


async def test_the_status_table(client: httpx.AsyncClient, plane: Plane, kit: Any) -> None:
    wrong = {}
    for name, (body, headers, status) in hostile(kit).items():
        answer = await client.post(INFER, content=body, headers=headers)
        document = answer.json()
        if answer.status_code != status or set(document) != {"error"} or plane.spec.backend in answer.text:
            wrong[name] = (answer.status_code, answer.text[:200])
    assert wrong == {}
    assert (await client.post(INFER, json=kit.a_question(kit.some_images()))).status_code == 200


async def test_what_is_taken_although_it_is_odd(client: httpx.AsyncClient, kit: Any) -> None:
    images = kit.some_images(1)
    raw = await client.post(INFER, content=images.tobytes(), headers={"Inference-Header-Content-Length": "0"})
    assert raw.status_code == 200
    size = int(raw.headers["inference-header-content-length"])
    assert json.loads(raw.content[:size])["model_name"] == DEPLOYMENT
    question = json.dumps(kit.a_question(images)).encode()
    for encoding, packed in (("gzip", gzip.compress(question)), ("deflate", zlib.compress(question))):
        answer = await client.post(INFER, content=packed, headers={"content-encoding": encoding})
        assert answer.status_code == 200, answer.text
    labels = kit.a_question(images, outputs=[{"name": "probabilities", "parameters": {"classification": 2}}])
    answer = await client.post(INFER, json=labels)
    assert answer.json()["outputs"][0]["datatype"] == "BYTES"
    zipped = await client.post(INFER, json=kit.a_question(images), headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in zipped.headers
    nan = question.replace(b'"data": [', b'"data": [NaN, ', 1).replace(b"]}", b"]}", 1)
    nan = nan.replace(str(float(images.reshape(-1)[-1])).encode() + b"]", b"1e39]").replace(b", 1e39]", b"]")
    assert (await client.post(INFER, content=nan)).status_code in {200, 400}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INFER, 405),
        ("POST", f"/v2/models/{DEPLOYMENT}", 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/models/unknown", 404),
        ("GET", "/v2/models/unknown/config", 404),
        ("GET", "/v2/models/unknown/stats", 404),
        ("GET", "/v2/models/unknown/ready", 400),
        ("GET", f"/v2/models/{DEPLOYMENT}/versions/1/ready", 400),
        ("GET", f"/v2/models/{DEPLOYMENT}/versions/1", 404),
        ("POST", f"/v2/models/{DEPLOYMENT}/versions/1/infer", 404),
        ("POST", f"/v2/models/{DEPLOYMENT}/versions/x/infer", 404),
        ("POST", "/v2/models/unknown/infer", 404),
        ("POST", "/v2/models/retired/infer", 404),
        ("GET", "/v2/models/missing/ready", 400),
        ("GET", "/v2/models/missing", 503),
        ("POST", "/v2/models/missing/infer", 503),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("POST", "/v2/cudasharedmemory/region/r/register", 404),
        ("GET", "/v2/trace/setting", 404),
        ("GET", "/v2/logging", 404),
        ("POST", "/v2/repository/index", 404),
        ("POST", "/v2/repository/models/digits/unload", 404),
        ("POST", f"/v2/models/{DEPLOYMENT}/infer/../../../repository/index", 404),
        ("POST", "/v2/models/%2e%2e/infer", 404),
        ("POST", "/v2/models/a%0d%0aX-Evil:%201/infer", 404),
        ("POST", "/v2/models/%ff%fe/infer", 404),
    ],
)
async def test_paths_and_methods(client: httpx.AsyncClient, kit: Any, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path, content=json.dumps(kit.a_question(kit.some_images())).encode())
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_no_triton_is_a_503_that_says_when_to_come_back(
    client: httpx.AsyncClient, plane: Plane, kit: Any, unused_port: int
) -> None:
    plane.gateway._data = Upstream(f"127.0.0.1:{unused_port}", max_in_flight=4, max_body_bytes=1 << 20)
    for answer in (
        await client.post(INFER, json=kit.a_question(kit.some_images())),
        await client.get(f"/v2/models/{DEPLOYMENT}"),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "error" in answer.json()
    assert plane.aways == 2


async def test_before_the_routes_are_known_there_is_a_503(client: httpx.AsyncClient, plane: Plane, kit: Any) -> None:
    plane.world.table_read = False
    answer = await client.post(INFER, json=kit.a_question(kit.some_images()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_tritonclient_works_unchanged(url: str, plane: Plane, kit: Any) -> None:
    import tritonclient.http.aio as triton

    images, headers = kit.some_images(3), kit.bearer()
    expected = kit.a_model()(images)
    async with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(DEPLOYMENT, headers=headers)
        assert await client.is_model_ready(DEPLOYMENT, str(VERSION), headers=headers)
        assert not await client.is_model_ready("unknown", headers=headers)
        assert (await client.get_server_metadata(headers=headers))["name"] == "millrace"
        assert (await client.get_model_metadata(DEPLOYMENT, headers=headers))["name"] == DEPLOYMENT
        assert (await client.get_model_config(DEPLOYMENT, headers=headers))["name"] == DEPLOYMENT
        assert (await client.get_inference_statistics(DEPLOYMENT, headers=headers))["model_stats"]
        for binary_in in (True, False):
            for binary_out in (True, False):
                for compression in (None, "gzip"):
                    asked = triton.InferInput("image", list(images.shape), "FP32")
                    asked.set_data_from_numpy(images, binary_data=binary_in)
                    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary_out)]
                    answer = await client.infer(
                        DEPLOYMENT,
                        [asked],
                        outputs=wanted,
                        request_id=f"r{binary_in}{binary_out}{compression}",
                        headers=dict(headers),
                        request_compression_algorithm=compression,
                    )
                    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)
                    assert answer.get_response()["model_name"] == DEPLOYMENT
    assert len(plane.ring.take()) == 8


async def test_the_blocking_tritonclient_works_unchanged(url: str, kit: Any) -> None:
    import tritonclient.http as triton

    images = kit.some_images(2)

    def ask() -> np.ndarray:
        with triton.InferenceServerClient(url.removeprefix("http://")) as client:
            asked = triton.InferInput("image", list(images.shape), "FP32")
            asked.set_data_from_numpy(images)
            answer: np.ndarray = client.infer(DEPLOYMENT, [asked], headers=kit.bearer()).as_numpy("probabilities")
            return answer

    np.testing.assert_allclose(await asyncio.to_thread(ask), kit.a_model()(images), atol=1e-5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_request_gets_a_5xx(loaded: Spec, triton_server: Any, kit: Any, data: st.DataObject) -> None:
    """Arbitrary bodies, heads and paths through the app itself; only 503 is allowed above 499."""
    question = json.dumps(kit.a_question(kit.some_images())).encode()
    mutated = st.builds(
        lambda at, junk: question[: at % len(question)] + junk + question[at % len(question) + len(junk) :],
        st.integers(0, 10_000),
        st.binary(min_size=1, max_size=6),
    )
    body = data.draw(st.binary(max_size=300) | mutated)
    head = data.draw(st.none() | st.integers(0, 400).map(str) | st.text(max_size=5))
    name = data.draw(st.just(DEPLOYMENT) | st.text(max_size=12))
    status, answer = asyncio.run(
        _through(Plane(loaded, triton_server.http, kit), f"/v2/models/{name}/infer", body, head)
    )
    assert status < 500, answer
    if status != 200:
        assert set(json.loads(answer)) == {"error"}


async def _through(plane: Plane, path: str, body: bytes, head: str | None) -> tuple[int, bytes]:
    headers = [(b"authorization", b"Bearer application")]
    if head is not None:
        headers.append((b"inference-header-content-length", head.encode("utf-8", "replace")))
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await plane.app(scope, receive, send)  # type: ignore[arg-type]
    await plane.upstream.close()
    return sent[0]["status"], sent[1]["body"]
