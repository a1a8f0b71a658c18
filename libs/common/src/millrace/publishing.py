"""Storing a message with a broker: the port between relay and bus, which know nothing of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Published:
    """The broker's answer: the message is stored."""

    stream: str
    sequence: int
    duplicate: bool = False


class Publisher(Protocol):
    """Publishes stored messages. `NatsPublisher` is it on the bus, `InMemoryPublisher` in tests."""

    async def publish(
        self, subject: str, raw: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Published:
        """Publish and wait until the broker has stored it. The same `message_id` again is stored once.

        Raises:
            Unavailable, DeadlineExceeded: no answer; it may be stored.
            Forbidden, TooLarge: it is refused, and will be again.
        """

    async def stream_epoch(self, stream: str) -> str:
        """Return when the stream was created: another value means that the broker lost what it held.

        Raises:
            Unavailable: the broker is away, or has no such stream now.
        """
