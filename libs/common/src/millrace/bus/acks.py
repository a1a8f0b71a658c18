"""Settling on the wire."""

from __future__ import annotations

import json

from nats.errors import Error as NatsError

from millrace.bus.replies import Replies
from millrace.errors import DeadlineExceeded, Unavailable

ACK_SECONDS = 5.0


class Acks:
    """Settles messages by their reply subject; `ack` waits for the server's own answer, so that none is lost."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._connection = replies.connection

    async def ack(self, reply: str) -> None:
        """Acknowledge and wait for the answer.

        Raises:
            DeadlineExceeded: none came within 5 s; the message may be delivered again.
            Unavailable: not connected.
        """
        try:
            await self._replies.ask(reply, b"+ACK", seconds=ACK_SECONDS)
        except TimeoutError:
            raise DeadlineExceeded("the broker did not confirm an acknowledgement") from None
        except NatsError as error:
            raise Unavailable(f"acknowledgement not sent: {error}") from None

    async def nak(self, reply: str, delay: float) -> None:
        """Ask for another delivery after `delay` seconds."""
        await self._send(reply, b"-NAK " + json.dumps({"delay": int(delay * 1e9)}).encode())

    async def term(self, reply: str) -> None:
        """Ask for no further delivery."""
        await self._send(reply, b"+TERM")

    async def working(self, reply: str) -> None:
        """Start the acknowledgement period anew."""
        await self._send(reply, b"+WPI")

    async def _send(self, reply: str, word: bytes) -> None:
        """Send now or not at all: kept for a later connection, it might meet another message of the same number.

        Raises:
            Unavailable: not connected.
        """
        if not self._connection.is_connected:
            raise Unavailable("not connected to NATS")
        await self._connection.publish(reply, word)
