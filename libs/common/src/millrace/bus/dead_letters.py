"""How a message becomes a dead letter: original bytes, and headers that say where it came from and why it is here."""

from __future__ import annotations

from collections.abc import Mapping

from millrace.bus import names
from millrace.bus.messages import Position
from millrace.events.envelope import AnyEvent

REASON_BYTES = 1_000
VALUE_BYTES = 600
ORIGINAL_BYTES = 8 * 1_024
"""Room for the original headers; the topology leaves 16 KiB beside the largest event."""


def message_id(at: Position) -> str:
    """Return the id that makes a dead letter unique: durable, stream, sequence and the time it was stored.

    The time tells a stream's lives apart, in which sequences begin anew.
    """
    return f"{at.durable}-{at.stream}-{at.sequence}-{at.timestamp}"


def headers_of(
    at: Position,
    *,
    service: str,
    subject: str,
    reason: str,
    error: str,
    original: Mapping[str, str],
    event: AnyEvent | None,
) -> dict[str, str]:
    """Return the headers of a dead letter. `Nats-*` headers of the original would be obeyed again, and stay behind."""
    found = {
        names.REASON: clean(reason, REASON_BYTES),
        names.ERROR: clean(error, VALUE_BYTES),
        names.SERVICE: service,
        names.DURABLE: at.durable,
        names.ATTEMPTS: str(at.delivered),
        names.SUBJECT: clean(_first_subject(subject, original), VALUE_BYTES),
        names.STREAM: at.stream,
        names.SEQUENCE: str(at.sequence),
    }
    if event is not None:
        found |= {
            names.EVENT_ID: event.id,
            names.EVENT_TYPE: clean(event.type, VALUE_BYTES),
            names.PROJECT: event.project,
            names.CORRELATION: event.correlationid,
        }
        if event.traceparent:
            found[names.TRACEPARENT] = event.traceparent
    return {**_kept(original, set(found)), **found}


def _first_subject(subject: str, original: Mapping[str, str]) -> str:
    """Return the subject of the first publish: a replay that fails again keeps it."""
    return original.get(names.SUBJECT, subject) if subject.startswith("replay.") else subject


def _kept(original: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    room, dropped = ORIGINAL_BYTES, 0
    for key, value in original.items():
        name, text = clean(key, 100), clean(value, VALUE_BYTES)
        if name.lower().startswith("nats-") or key.startswith(names.HEADER) or name in taken:
            continue
        room -= len(name) + len(text) + 4
        if room < 0 or not name or ":" in name or " " in name or name.lower() == "status":
            dropped += 1
        else:
            kept[name] = text
    if dropped:
        kept[names.DROPPED] = str(dropped)
    return kept


def clean(text: str, limit: int) -> str:
    """Return `text` as one line of printable ASCII of at most `limit` bytes: what a header can hold."""
    plain = text.encode("ascii", "backslashreplace").decode("ascii")
    printable = "".join(char if " " <= char <= "~" else " " for char in plain).strip()
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."
