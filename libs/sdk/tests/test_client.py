from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.responses import JSONResponse, Response

from millrace.errors import (
    Conflict,
    DeadlineExceeded,
    Exhausted,
    Fenced,
    Forbidden,
    Invalid,
    MillraceError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from millrace_sdk.client import AsyncCatalog, Catalog

from .gateway import TOKEN, Gateway

Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Call one method of either client, with its options."""

    def sync(method: str, *arguments: Any, **options: Any) -> Any:
        with Catalog(**options) as catalog:
            return getattr(catalog, method)(*arguments)

    def anew(method: str, *arguments: Any, **options: Any) -> Any:
        async def main() -> Any:
            async with AsyncCatalog(**options) as catalog:
                return await getattr(catalog, method)(*arguments)

        return asyncio.run(main())

    return sync if request.param == "sync" else anew


@pytest.mark.parametrize(
    "error",
    [
        Invalid("bad"), TooLarge("big"), Unauthenticated("who"), Forbidden("no"), NotFound("gone"), Conflict("clash"),
        Fenced("lost"), MillraceError("broken"),
    ],
)  # fmt: skip
def test_problems_become_our_errors(gateway: Gateway, ask: Ask, error: MillraceError) -> None:
    error.hint = "try this"
    gateway.failures = [error]
    with pytest.raises(MillraceError) as caught:
        ask("dataset", "digits")
    assert type(caught.value) is type(error)
    assert (caught.value.message, caught.value.hint) == (error.message, "try this")
    assert caught.value.context["request_id"] == "r-1"
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("late"), Exhausted("slow down")])
def test_passing_failures_are_tried_again_with_the_same_key(gateway: Gateway, ask: Ask, error: MillraceError) -> None:
    gateway.answers["POST", "/v1/runs"] = {"run": "r"}
    gateway.failures = [error, error]
    assert ask("start_run", {"dataset": "digits"}) == {"run": "r"}
    keys = [headers["idempotency-key"] for _, _, headers in gateway.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_calls_have_two_keys(gateway: Gateway, ask: Ask) -> None:
    gateway.answers["POST", "/v1/runs"] = {"run": "r"}
    ask("start_run", {})
    ask("start_run", {})
    assert len({headers["idempotency-key"] for _, _, headers in gateway.requests}) == 2


def test_patience_ends(gateway: Gateway, ask: Ask) -> None:
    gateway.failures = [Unavailable("away") for _ in range(50)]
    with pytest.raises(Unavailable, match="away"):
        ask("datasets", patience=2.0)
    assert 2 <= len(gateway.requests) < 20


def test_nobody_there_is_unavailable(ask: Ask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="cannot reach"):
            ask("datasets", url=f"http://127.0.0.1:{taken.getsockname()[1]}", token="t", patience=0.2)


def test_silence_ends_by_the_deadline(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineExceeded):
            ask("datasets", url=url, token="t", timeout=0.2, patience=0.1)


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>", 500), Response("", 404), JSONResponse(["x"], 403), JSONResponse({"detail": {"a": 1}}, 409),
        JSONResponse(None, 400), Response(b"\xff\xfe", 401), Response("", 302, {"location": "http://elsewhere/"}),
    ],
)  # fmt: skip
def test_strange_failures_are_still_ours(gateway: Gateway, ask: Ask, answer: Any) -> None:
    gateway.failures = [answer]
    with pytest.raises(MillraceError):
        ask("datasets")
    assert len(gateway.requests) == 1


def test_an_answer_that_is_not_json_is_no_gateway(gateway: Gateway, ask: Ask) -> None:
    gateway.failures = [Response("<html>hello</html>", 200) for _ in range(20)]
    with pytest.raises(Unavailable, match="not JSON"):
        ask("datasets", patience=0.1)


def test_names_cannot_leave_their_place_in_the_path(gateway: Gateway, ask: Ask) -> None:
    with pytest.raises(NotFound):
        ask("run", "../../tokens")
    assert gateway.requests[0][1] in {"/v1/runs/../../tokens", "/v1/runs/..%2F..%2Ftokens"}


def test_project_and_token_go_along(gateway: Gateway, ask: Ask) -> None:
    gateway.answers["GET", "/v1/waiting"] = {"items": []}
    ask("waiting", project="vision")
    assert gateway.requests[0][2]["authorization"] == f"Bearer {TOKEN}"


def test_the_token_is_shown_nowhere(gateway: Gateway) -> None:
    with Catalog() as catalog:
        assert TOKEN not in repr(catalog)
        assert TOKEN not in repr(vars(catalog)["url"])


def test_importing_the_package_loads_no_http() -> None:
    script = "import sys, millrace_sdk; print([m for m in ('httpx', 'pydantic', 'rich', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
