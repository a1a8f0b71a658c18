"""The app factory: errors are problem documents, limits hold, no route is open by accident."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Request

from millrace.auth import Principal, mint
from millrace.errors import Conflict, Unauthenticated, Unavailable
from millrace.http import ANONYMOUS_PATHS, create_app, enumerate_routes, requires
from millrace.runtime import Runtime

KNOWN = mint()
FOREIGN = mint()


class FixedAuthenticator:
    async def authenticate(self, token: str) -> Principal:
        if token == KNOWN.text:
            return Principal("ada", "person", "default", frozenset({"viewer"}))
        if token == FOREIGN.text:
            return Principal("eve", "person", "other", frozenset({"admin"}))
        raise Unauthenticated("unknown")


def an_app() -> FastAPI:
    inner = APIRouter(prefix="/v1/things")

    @inner.get("/{name}")
    async def get_thing(name: str, _: Annotated[Principal, Depends(requires("datasets:read"))]) -> dict[str, str]:
        if name == "gone":
            raise Unavailable("away", hint="wait")
        if name == "broken":
            raise RuntimeError("secret detail")
        raise Conflict("taken", thing=name)

    @inner.post("")
    async def post_thing(
        _: Annotated[Principal, Depends(requires("datasets:write"))], size: Annotated[int, Body(embed=True)]
    ) -> dict[str, int]:
        return {"size": size}

    @inner.put("/stream")
    async def stream(request: Request, _: Annotated[Principal, Depends(requires("datasets:read"))]) -> dict[str, int]:
        return {"bytes": sum([len(chunk) async for chunk in request.stream()])}

    outer = APIRouter()
    outer.include_router(inner)
    return create_app(
        "test", runtime=Runtime("test"), authenticator=FixedAuthenticator(), routers=[outer], max_body_bytes=1_000
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=an_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


def bearer(token: str = KNOWN.text) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_an_error_is_a_problem_document(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/things/x", headers=bearer())
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == "conflict"
    assert body["thing"] == "x"
    assert body["instance"] == "/v1/things/x"


async def test_a_transient_error_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/things/gone", headers=bearer())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["hint"] == "wait"


async def test_an_unexpected_error_shows_no_internals(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/things/broken", headers=bearer())
    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("value", ["", "Bearer", "Basic abc", "Bearer mlr_dev_x", "Bearer " + "a" * 10_000])
async def test_without_a_valid_token_nothing_answers(client: httpx.AsyncClient, value: str) -> None:
    response = await client.get("/v1/things/x", headers={"authorization": value})
    assert response.status_code == 401
    assert "www-authenticate" in response.headers


async def test_another_projects_resources_do_not_exist(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/things/x", headers=bearer(FOREIGN.text))).status_code == 404
    assert (await client.get("/v1/things/x?project=other", headers=bearer())).status_code == 404


async def test_a_role_that_does_not_grant_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/things", headers=bearer(), json={"size": 1})).status_code == 403


async def test_invalid_input_names_the_place(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/things/x?project=NOT%20A%20NAME", headers=bearer())
    assert response.status_code == 400
    assert response.json()["errors"][0]["where"] == "query.project"


async def test_a_declared_body_over_the_limit_is_413(client: httpx.AsyncClient) -> None:
    response = await client.put("/v1/things/stream", headers=bearer(), content=b"x" * 1_001)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_streamed_body_over_the_limit_is_413(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    response = await client.put("/v1/things/stream", headers=bearer(), content=chunks())
    assert response.status_code == 413


async def test_a_body_within_the_limit_passes(client: httpx.AsyncClient) -> None:
    response = await client.put("/v1/things/stream", headers=bearer(), content=b"x" * 1_000)
    assert response.json() == {"bytes": 1_000}


async def test_health_needs_no_token_and_tells_reasons() -> None:
    app = an_app()

    async def away() -> str | None:
        return "mongod does not answer"

    app.state.runtime.add_check("mongo", away)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        assert (await http.get("/livez")).status_code == 200
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == {"mongo": "mongod does not answer"}
        assert "millrace_http_request_seconds" in (await http.get("/metrics")).text


async def test_a_request_id_is_kept_or_made(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez", headers={"x-request-id": "abc"})).headers["x-request-id"] == "abc"
    made = (await client.get("/livez", headers={"x-request-id": "bad id\t"})).headers["x-request-id"]
    assert len(made) == 36


def test_every_nested_route_is_enumerated_with_its_guard() -> None:
    guards = {(guard.method, guard.path): guard.action for guard in enumerate_routes(an_app())}
    assert guards[("GET", "/v1/things/{name}")] == "datasets:read"
    assert guards[("POST", "/v1/things")] == "datasets:write"
    assert {path for (_, path), action in guards.items() if action is None} <= ANONYMOUS_PATHS


def test_a_guard_for_an_unknown_action_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no role grants"):
        requires("datasets:fly")


async def test_the_lifespan_runs_and_stops_background_work() -> None:
    import asyncio

    app = an_app()
    seen = asyncio.Event()
    closed = []

    async def work() -> None:
        seen.set()
        await asyncio.Event().wait()

    async def close() -> None:
        closed.append(True)

    app.state.runtime.add_task("work", work)
    app.state.runtime.on_close(close)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        await asyncio.wait_for(seen.wait(), 5)
    assert closed == [True]
