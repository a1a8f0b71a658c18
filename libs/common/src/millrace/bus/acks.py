"""Settling on the wire. One reply subscription answers all double acknowledgements of a connection."""

from __future__ import annotations

import asyncio
import itertools
import json

from nats.aio.client import Client
from nats.aio.msg import Msg

from millrace.errors import DeadlineExceeded

ACK_SECONDS = 5.0


class Acks:
    """Acknowledges by reply subject; `ack` waits for the server's own answer, so that it is not lost in silence."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._prefix = f"{connection.new_inbox()}."
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def open(self) -> None:
        """Subscribe to the answers."""
        await self._connection.subscribe(f"{self._prefix}*", cb=self._answered)

    async def ack(self, reply: str) -> None:
        """Acknowledge and wait for the answer.

        Raises:
            DeadlineExceeded: none came within 5 s; the message may be delivered again.
        """
        loop = asyncio.get_running_loop()
        answer = self._prefix + str(next(self._numbers))
        future: asyncio.Future[None] = loop.create_future()
        self._waiting[answer] = future
        timer = loop.call_later(ACK_SECONDS, _give_up, future)
        try:
            await self._connection.publish(reply, b"+ACK", answer)
            await future
        finally:
            timer.cancel()
            del self._waiting[answer]

    async def nak(self, reply: str, delay: float) -> None:
        """Ask for another delivery after `delay` seconds."""
        await self._connection.publish(reply, b"-NAK " + json.dumps({"delay": int(delay * 1e9)}).encode())

    async def term(self, reply: str) -> None:
        """Ask for no further delivery."""
        await self._connection.publish(reply, b"+TERM")

    async def working(self, reply: str) -> None:
        """Start the acknowledgement period anew."""
        await self._connection.publish(reply, b"+WPI")

    async def _answered(self, message: Msg) -> None:
        future = self._waiting.get(message.subject)
        if future is not None and not future.done():
            future.set_result(None)


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("the broker did not confirm an acknowledgement"))
