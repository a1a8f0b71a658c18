"""A small pooled HTTP/1.1 client for the one upstream, Triton on this machine.

It costs half of what a general client costs per request. It speaks what Triton speaks: Content-Length bodies, kept-
alive connections. It never sends Accept-Encoding, since Triton would compress and the head length counts plain bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from millrace.errors import DeadlineExceeded, Exhausted
from serving.errors import ModelServerAway

_MAX_HEAD = 32 * 1024
_MAX_IDLE = 64
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; header names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class _ClosedError(Exception):
    """The connection ended before the answer was whole."""


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, max_body: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.reply: asyncio.Future[Reply] | None = None
        self.usable = True
        self._max_body = max_body
        self._buffer = bytearray()
        self._head: tuple[int, dict[bytes, bytes]] | None = None
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[Reply]:
        """Send a request; the future gets its reply, a `_ClosedError` or a `ModelServerAway`."""
        self.reply = asyncio.get_running_loop().create_future()
        if self.transport is None:
            raise _ClosedError
        if body:
            self.transport.writelines((head, body))
        else:  # an empty piece stays in the buffer of Python 3.12's transports for ever, and none of them closes then
            self.transport.write(head)
        return self.reply

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._advance()
        except (ValueError, IndexError):
            self._fail(ModelServerAway("Triton's answer is not HTTP"))

    def _advance(self) -> None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD:
                    raise ValueError("head too long")
                return
            self._head = _parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            self._length = int(self._head[1].get(b"content-length", b"0"))
            if not 0 <= self._length <= self._max_body or b"transfer-encoding" in self._head[1]:
                raise ValueError("body of unknown length or too large")
        if len(self._buffer) >= self._length:
            self._complete(*self._head)

    def _complete(self, status: int, headers: dict[bytes, bytes]) -> None:
        body = bytes(self._buffer[: self._length])
        self.usable = len(self._buffer) == self._length and headers.get(b"connection", b"").lower() != b"close"
        self._buffer.clear()
        self._head = None
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(Reply(status, headers, body))
        self.reply = None

    def _fail(self, error: Exception) -> None:
        self.usable = False
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(error)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.usable = False
        self.transport = None
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(_ClosedError())


def _parse_head(raw: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = raw.split(b"\r\n")
    version, code = first.split(b" ", 2)[:2]
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP/1")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return int(code), headers


class Upstream:
    """Requests to `address` (`host:port`), at most `max_in_flight` at once."""

    def __init__(self, address: str, *, max_in_flight: int, max_body_bytes: int) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._host_header = address.encode()
        self._max_in_flight = max_in_flight
        self._max_body = max_body_bytes
        self._idle: list[_Connection] = []
        self.in_flight = 0

    async def request(
        self, method: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, seconds: float
    ) -> Reply:
        """Send one request and return its reply; one that meets a connection closed while idle is sent again.

        Raises:
            Exhausted: too many requests are under way. ModelServerAway: refused or lost. DeadlineExceeded: too slow.
        """
        if self.in_flight >= self._max_in_flight:
            raise Exhausted(f"{self.in_flight} requests are under way")
        lines = [method, b" ", path, b" HTTP/1.1\r\nhost: ", self._host_header, b"\r\ncontent-length: "]
        lines += [str(len(body)).encode(), b"\r\n"]
        for name, value in headers:
            lines += [name, b": ", value, b"\r\n"]
        head = b"".join((*lines, b"\r\n"))
        self.in_flight += 1
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(head, body)
        except TimeoutError:
            raise DeadlineExceeded(f"Triton gave no answer within {seconds:g} s") from None
        finally:
            self.in_flight -= 1

    async def _ask(self, head: bytes, body: bytes) -> Reply:
        idle = self._take()
        if idle is not None:
            try:
                return await self._exchange(idle, head, body)
            except _ClosedError:
                pass  # the server closed it while it was idle
        try:
            return await self._exchange(await self._connect(), head, body)
        except _ClosedError:
            raise ModelServerAway("Triton closed the connection") from None

    async def _exchange(self, connection: _Connection, head: bytes, body: bytes) -> Reply:
        try:
            reply = await connection.ask(head, body)
        except BaseException:
            if connection.transport is not None:
                connection.transport.abort()
            raise
        self._give(connection)
        return reply

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def _give(self, connection: _Connection) -> None:
        if connection.usable and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        elif connection.transport is not None:
            connection.transport.close()

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._max_body), self._host, self._port
                )
        except (OSError, TimeoutError) as error:
            raise ModelServerAway(f"Triton cannot be reached: {type(error).__name__}") from None
        return connection

    async def close(self) -> None:
        """Close idle connections."""
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn
