"""A service's key ring: what it asks, what it believes, and what it says when it is told nothing."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from millrace.clock import SystemClock
from millrace.errors import Forbidden, Invalid, MillraceError, Unavailable
from millrace.sealing import KeyMemory, Known, ProjectKey, catalog_keys

KEY = ProjectKey("wards", bytes(range(32)))
CLEAR = {"encrypted": False, "settled": True}
SEALED = {"encrypted": True, "settled": True}


class Clock(SystemClock):
    """A clock whose seconds pass when they are told to."""

    passed = 0.0

    def monotonic(self) -> float:
        return self.passed


def ring(clock: Clock, *answers: httpx.Response | Exception) -> tuple[KeyMemory, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = answers[min(len(asked), len(answers)) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://catalog")
    return catalog_keys(client, token="t", clock=clock), asked


def given(key: str = KEY.text) -> httpx.Response:
    return httpx.Response(200, json={"key": key})


async def test_a_key_is_fetched_and_asked_for_again() -> None:
    clock = Clock()
    keys, asked = ring(clock, httpx.Response(200, json=SEALED), given(), httpx.Response(200, json=SEALED), given())
    assert await asyncio.gather(*(keys.key_of("wards") for _ in range(20))) == [KEY] * 20
    assert [request.url.path for request in asked] == ["/v1/encryption", "/v1/encryption/key"]
    assert {request.headers["authorization"] for request in asked} == {"Bearer t"}
    assert {request.url.params["project"] for request in asked} == {"wards"}
    clock.passed = 599
    assert await keys.key_of("wards") == KEY
    assert len(asked) == 2
    clock.passed = 601
    assert await keys.key_of("wards") == KEY
    assert len(asked) == 4


async def test_that_a_project_lies_in_clear_stays_so() -> None:
    clock = Clock()
    keys, asked = ring(clock, httpx.Response(200, json=CLEAR), httpx.ConnectError("away"))
    assert await keys.key_of("wards") is None
    clock.passed = 10**6
    assert await keys.key_of("wards") is None
    assert len(asked) == 1


async def test_a_right_that_was_taken_away_ends() -> None:
    clock = Clock()
    keys, _ = ring(
        clock, httpx.Response(200, json=SEALED), given(), httpx.Response(200, json=SEALED), httpx.Response(403)
    )
    assert await keys.key_of("wards") == KEY
    clock.passed = 601
    with pytest.raises(Forbidden):
        await keys.key_of("wards")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (httpx.ConnectError("no"), Unavailable, "ConnectError"),
        (httpx.ReadTimeout("slow"), Unavailable, "ReadTimeout"),
        (httpx.Response(404, json={"detail": "Not Found"}), Unavailable, "404 Not Found"),
        (
            httpx.Response(409, json={"detail": "the master key is not there"}),
            Unavailable,
            "the master key is not there",
        ),
        (httpx.Response(502, text="<html>"), Unavailable, "502"),
        (httpx.Response(401, json=[]), Unavailable, "401"),
        (httpx.Response(403), Forbidden, "may not have"),
    ],
)
async def test_without_an_answer_nobody_says_that_it_lies_in_clear(
    answer: httpx.Response | Exception, error: type[MillraceError], said: str
) -> None:
    for before in ([], [httpx.Response(200, json=SEALED)]):
        keys, _ = ring(Clock(), *before, answer)
        with pytest.raises(error, match=said):
            await keys.key_of("wards")


async def test_what_is_no_key_is_refused_and_not_repeated() -> None:
    keys, _ = ring(Clock(), httpx.Response(200, json=SEALED), given("c2VjcmV0"))
    with pytest.raises(Invalid) as refused:
        await keys.key_of("wards")
    assert "c2VjcmV0" not in str(refused.value)


async def test_who_leaves_takes_the_answer_from_nobody() -> None:
    going = asyncio.Event()

    async def ask(_: str) -> Known:
        await going.wait()
        return Known(KEY, settled=True)

    keys = KeyMemory(ask, SystemClock())
    first, second = (asyncio.ensure_future(keys.key_of("wards")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    going.set()
    assert await second == KEY
