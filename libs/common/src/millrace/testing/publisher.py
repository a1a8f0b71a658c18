"""A broker's streams in memory, as the relay sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from millrace.errors import MillraceError, Unavailable
from millrace.publishing import Published


@dataclass(frozen=True)
class StoredMessage:
    """One message of a stream."""

    subject: str
    raw: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


class InMemoryPublisher:
    """Stores messages by stream, each id once; can be down, refuse, lose an answer, and be wiped."""

    def __init__(self, streams: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.down = False
        self.failures: list[MillraceError] = []
        self.lost_answers: list[MillraceError] = []
        self.messages: dict[str, list[StoredMessage]] = {}
        self.publishes = 0
        self._life = 1
        self._subjects = streams or {"EVENTS": ("evt.", "replay."), "JOBS": ("job.",), "DLQ": ("dlq.",)}

    async def publish(
        self, subject: str, raw: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Published:
        """Store a message. `failures` are raised before it is stored, `lost_answers` after."""
        self._require()
        if self.failures:
            raise self.failures.pop(0)
        self.publishes += 1
        stream = self._stream(subject)
        stored = self.messages.setdefault(stream, [])
        known = next((number for number, item in enumerate(stored, 1) if item.message_id == message_id), None)
        if known is None:
            stored.append(StoredMessage(subject, raw, message_id, dict(headers or {})))
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return Published(stream, known or len(stored), duplicate=known is not None)

    async def stream_epoch(self, stream: str) -> str:
        """Return which life of the store this is."""
        self._require()
        return f"{stream}-{self._life}"

    def wipe(self) -> None:
        """Lose every byte."""
        self.messages.clear()
        self._life += 1

    def events(self) -> list[StoredMessage]:
        """Return what the stream of events holds."""
        return list(self.messages.get("EVENTS", ()))

    def _require(self) -> None:
        if self.down:
            raise Unavailable("the broker is down")

    def _stream(self, subject: str) -> str:
        for name, prefixes in self._subjects.items():
            if subject.startswith(prefixes):
                return name
        raise Unavailable(f"no stream takes {subject}")
