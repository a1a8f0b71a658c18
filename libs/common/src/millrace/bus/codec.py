"""Between bytes on the wire and events: the one codec, set once on the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faststream.message import StreamMessage

from millrace.bus import names
from millrace.bus.messages import position
from millrace.bus.subscription import DeadLetter
from millrace.events import decode, encode
from millrace.events.envelope import CONTENT_TYPE

_DLQ = "dlq."
_EVENT = "evt."


class CloudEventsCodec:
    """Structured CloudEvents; messages of the dead-letter stream become `DeadLetter`."""

    async def decode(self, msg: StreamMessage[Any]) -> Any:
        """Return the event of a message.

        Raises:
            Invalid: it is none; the settle middleware dead-letters it with the reason.
        """
        raw = msg.raw_message
        if raw.subject.startswith(_DLQ):
            return dead_letter(raw.subject, raw.data, raw.headers or {}, raw.reply)
        return decode(raw.data, subject=_claimed_subject(raw.subject, raw.headers))

    async def encode(self, msg: Any, serializer: Any = None) -> tuple[bytes, str | None]:  # noqa: ARG002
        """Return the bytes of an event and their content type."""
        return encode(msg), CONTENT_TYPE


def _claimed_subject(subject: str, headers: Mapping[str, str] | None) -> str | None:
    """Return the subject that the event's own words must agree with; a replay carries its first one in a header."""
    if subject.startswith(_EVENT):
        return subject
    original = (headers or {}).get(names.SUBJECT, "")
    return original if original.startswith(_EVENT) else None


def dead_letter(subject: str, data: bytes, headers: Mapping[str, str], reply: str) -> DeadLetter:
    """Read back what the settle middleware wrote."""
    at = position(reply)
    _, _, rest = subject.partition(".")
    service, _, durable = rest.partition(".")
    return DeadLetter(
        id=headers.get(names.MESSAGE_ID) or f"{at.stream}-{at.sequence}",
        durable=headers.get(names.DURABLE, durable),
        service=headers.get(names.SERVICE, service),
        reason=headers.get(names.REASON, ""),
        error=headers.get(names.ERROR, ""),
        attempts=_number(headers.get(names.ATTEMPTS)),
        subject=headers.get(names.SUBJECT, ""),
        stream=headers.get(names.STREAM, ""),
        sequence=_number(headers.get(names.SEQUENCE)),
        raw=data,
        headers=dict(headers),
        traceparent=headers.get(names.TRACEPARENT),
        event_id=headers.get(names.EVENT_ID),
        event_type=headers.get(names.EVENT_TYPE),
        project=headers.get(names.PROJECT),
        correlation=headers.get(names.CORRELATION),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
