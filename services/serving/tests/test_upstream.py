"""The upstream client before servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import DeadlineExceeded, Exhausted
from serving.adapters.upstream import Upstream
from serving.errors import ModelServerAway

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def serving(handler: Handler, **limits: Any) -> AsyncIterator[Upstream]:
    handling: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = Upstream(f"127.0.0.1:{port}", **({"max_in_flight": 8, "max_body_bytes": 1 << 20} | limits))
    try:
        yield upstream
    finally:
        await upstream.close()
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    return head, await reader.readexactly(length)


async def ask(upstream: Upstream, body: bytes = b"", seconds: float = 2.0) -> tuple[int, bytes]:
    reply = await upstream.request(b"POST", b"/x", [(b"content-type", b"a/b")], body, seconds=seconds)
    return reply.status, reply.body


async def test_connections_are_kept_and_no_encoding_is_asked_for() -> None:
    connections, heads = 0, []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head, body = await read_request(reader)
            heads.append(head.lower())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with serving(handler) as upstream:
        for size in (0, 1, 100_000):
            assert await ask(upstream, b"x" * size) == (200, b"x" * size)
    assert connections == 1
    assert not any(b"accept-encoding" in head for head in heads)


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)

    async with serving(handler) as upstream:
        for _ in range(5):
            assert await ask(upstream) == (200, b"ok")


async def test_a_fresh_connection_that_dies_is_not_tried_again() -> None:
    requests = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1

    async with serving(handler) as upstream:
        with pytest.raises(ModelServerAway):
            await ask(upstream)
    assert requests == 1


async def test_slow_and_refused_and_too_many() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(10)

    async with serving(handler, max_in_flight=1) as upstream:
        waiting = asyncio.create_task(ask(upstream, seconds=0.2))
        await asyncio.sleep(0.05)
        with pytest.raises(Exhausted):
            await ask(upstream)
        with pytest.raises(DeadlineExceeded):
            await waiting
        assert upstream.in_flight == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"",
    ],
)
async def test_an_answer_that_is_none_is_the_server_being_away(answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with serving(handler) as upstream:
        with pytest.raises(ModelServerAway):
            await ask(upstream)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, 40), max_size=12), body=st.binary(max_size=60))
def test_an_answer_in_any_pieces_is_one_answer(cuts: list[int], body: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-LENGTH: %d\r\n\r\n" % len(body) + body

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        rest = raw
        for cut in cuts:
            writer.write(rest[:cut])
            rest = rest[cut:]
            await asyncio.sleep(0)
        writer.write(rest)
        await writer.drain()

    async def run() -> None:
        async with serving(handler) as upstream:
            assert await ask(upstream) == (200, body)

    asyncio.run(run())
