"""A message as it came from a stream, for consumers that take bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from millrace.errors import Invalid

DATA_REPLY = "$JS.ACK."
"""Reply subjects of stored messages begin so; a status of the server has none. Headers prove nothing: anybody who
may publish can write `Status: 503` into one."""


class Acknowledger(Protocol):
    """Settles messages by their reply subject."""

    async def ack(self, reply: str) -> None:
        """Acknowledge and wait until the server has taken it."""

    async def nak(self, reply: str, delay: float) -> None:
        """Ask for another delivery after `delay` seconds."""

    async def term(self, reply: str) -> None:
        """Ask for no further delivery."""

    async def working(self, reply: str) -> None:
        """Say that work goes on: the acknowledgement period starts anew."""


@dataclass(frozen=True)
class Position:
    """Where a delivery stands, read from its reply subject."""

    stream: str
    durable: str
    delivered: int
    sequence: int
    timestamp: int
    """Nanoseconds since the epoch, by the server's clock, when the message was stored."""

    pending: int


def address(reply: str) -> tuple[str, str, str]:
    """Return stream, durable and the number of the delivery, as text: the quick look at a reply subject."""
    tokens = reply.split(".", 8)
    start = 2 if reply.count(".") < 9 else 4
    return tokens[start], tokens[start + 1], tokens[start + 2]


def position(reply: str) -> Position:
    """Parse `$JS.ACK.<stream>.<durable>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>`.

    Raises:
        Invalid: not a reply subject of a stored message.
    """
    tokens = reply.split(".")
    if not reply.startswith(DATA_REPLY) or len(tokens) < 9:
        raise Invalid("not a message of a stream")
    if len(tokens) > 9:  # newer servers: domain and account hash come first
        tokens = tokens[:2] + tokens[4:]
    return Position(tokens[2], tokens[3], int(tokens[4]), int(tokens[5]), int(tokens[7]), int(tokens[8]))


@dataclass(frozen=True)
class RawMessage:
    """One stored message, delivered to a durable. Settle each exactly once."""

    subject: str
    data: bytes
    headers: dict[str, str]
    position: Position
    reply: str
    acknowledger: Acknowledger

    async def ack(self) -> None:
        """Acknowledge twice: return once the server has taken it.

        Raises:
            DeadlineExceeded: no answer; the message may come again.
        """
        await self.acknowledger.ack(self.reply)

    async def nak(self, delay: float) -> None:
        """Ask for another delivery after `delay` seconds."""
        await self.acknowledger.nak(self.reply, delay)

    async def term(self) -> None:
        """Refuse the message for good."""
        await self.acknowledger.term(self.reply)

    async def in_progress(self) -> None:
        """Say that work goes on."""
        await self.acknowledger.working(self.reply)
