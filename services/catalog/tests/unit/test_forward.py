"""What the gateway asks of the services that it passes requests on to."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx

from catalog.entrypoints.forward import Forwarder


async def test_owners_are_asked_once_for_their_description_however_many_ask_the_gateway() -> None:
    asked: Counter[str] = Counter()

    def answer(request: httpx.Request) -> httpx.Response:
        asked[request.url.host] += 1
        return httpx.Response(200, json={"paths": {}, "from": request.url.host})

    table = {
        "/v1/queue": ("trainer", "http://t"),
        "/v1/gpus": ("trainer", "http://t"),
        "/v1/drift": ("monitor", "http://m"),
    }
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        forwarder = Forwarder(table, client)
        answers = await asyncio.gather(*(forwarder.descriptions() for _ in range(50)))
    assert asked == {"t": 1, "m": 1}
    assert {(part.service, part.prefixes) for part in answers[-1]} == {
        ("trainer", ("/v1/queue", "/v1/gpus")),
        ("monitor", ("/v1/drift",)),
    }


async def test_an_owner_that_is_away_is_left_out() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(503))) as client:
        assert await Forwarder({"/v1/queue": ("trainer", "http://t")}, client).descriptions() == []
