"""What moves the bytes of a push or a pull, and lets go of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from millrace.errors import Unavailable
from millrace_sdk.transport import Transport

PUSHER = """
import asyncio, sys
from millrace_sdk.transport import Transport

async def main():
    transport = Transport(timeout=300)
    try:
        print("begins", flush=True)
        await transport.send("PUT", sys.argv[1], body=bytes(32 << 20))
    finally:
        transport.close()

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def slow_lake() -> Iterator[tuple[str, threading.Event]]:
    """A lake that takes one request very slowly, minutes for 32 MiB; the event says that it has begun."""
    begun, over = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1_024)
                    begun.set()
                    while connection.recv(64 * 1_024) and not over.wait(0.5):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/bucket/key", begun
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_closing_ends_an_upload_under_way(slow_lake: tuple[str, threading.Event]) -> None:
    url, begun = slow_lake
    transport = Transport(timeout=300)
    upload = asyncio.create_task(transport.send("PUT", url, body=bytes(32 << 20)))
    assert await asyncio.to_thread(begun.wait, 30)
    transport.close()
    async with asyncio.timeout(30):
        with pytest.raises((Unavailable, RuntimeError)):  # the first attempt breaks, and no thread is left for another
            await upload


async def test_a_process_that_is_interrupted_ends_at_once(slow_lake: tuple[str, threading.Event]) -> None:
    url, begun = slow_lake
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", PUSHER, url, stdout=asyncio.subprocess.PIPE)
    try:
        assert await asyncio.to_thread(begun.wait, 60)
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await child.wait() == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def test_an_upload_over_a_slow_line_may_take_longer_than_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_sdk.transport.CONNECT_SECONDS", 0.5)
    body, got = bytes(range(256)) * 32_768, bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as file:
                head = b"".join(iter(file.readline, b"\r\n"))
                assert f"content-length: {len(body)}".encode() in head.lower()
                while len(got) < len(body):
                    got.extend(file.read(len(body) // 16))
                    threading.Event().wait(0.1)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        transport = Transport(timeout=30)
        answer = await transport.send("PUT", f"http://127.0.0.1:{server.getsockname()[1]}/bucket/key", body=body)
        transport.close()
        thread.join()
    assert answer.status == 200
    assert got == body


@pytest.fixture
def lake() -> Iterator[tuple[str, list[bytes]]]:
    """A lake that gives each request the next of these answers, and then hangs up."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4_096)
                        connection.sendall(answers.pop(0))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/bucket/key", answers
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


BODY = bytes(range(256)) * 12_000
OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY)


async def into(url: str, buffer: bytearray) -> tuple[int, int, bytes]:
    transport = Transport(timeout=10)
    try:
        answer = await transport.send("GET", url, into=memoryview(buffer))
    finally:
        transport.close()
    return answer.status, answer.size, answer.body


async def test_a_body_comes_into_the_buffer_of_its_reader(lake: tuple[str, list[bytes]]) -> None:
    url, answers = lake
    buffer = bytearray(b"?" * (len(BODY) + 3))
    answers.append(OK + BODY)
    assert await into(url, buffer) == (200, len(BODY), b"")
    assert buffer == BODY + b"???"


async def test_a_body_that_does_not_fit_is_not_read(lake: tuple[str, list[bytes]]) -> None:
    url, answers = lake
    buffer = bytearray(b"?" * 100)
    answers.append(OK + BODY)
    assert await into(url, buffer) == (200, len(BODY), b"")
    assert buffer == b"?" * 100


async def test_a_body_that_breaks_off_is_asked_for_again(lake: tuple[str, list[bytes]]) -> None:
    url, answers = lake
    buffer = bytearray(len(BODY))
    answers += [OK + b"x" * 70_000, OK + BODY]
    assert await into(url, buffer) == (200, len(BODY), b"")
    assert buffer == BODY


async def test_a_body_that_never_ends_is_not_taken_for_one_that_fits(lake: tuple[str, list[bytes]]) -> None:
    url, answers = lake
    answers += [b"HTTP/1.1 200 OK\r\n\r\n" + BODY] * 5
    with pytest.raises(Unavailable):
        await into(url, bytearray(1_000))


@pytest.mark.parametrize("length", [b"many", b"-5", b"99999999999999999999999999", b"5, 6"])
async def test_an_absurd_length_is_an_answer_like_none(lake: tuple[str, list[bytes]], length: bytes) -> None:
    url, answers = lake
    answers += [b"HTTP/1.1 200 OK\r\ncontent-length: " + length + b"\r\n\r\n" + BODY] * 5
    buffer = bytearray(b"?" * 1_000)
    try:
        assert (await into(url, buffer))[1] > len(buffer)
    except Unavailable:
        return
    assert buffer == b"?" * 1_000


async def test_a_refusal_is_no_body(lake: tuple[str, list[bytes]]) -> None:
    url, answers = lake
    buffer = bytearray(b"?" * 100)
    answers.append(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone")
    assert await into(url, buffer) == (404, 0, b"gone")
    assert buffer == b"?" * 100
