"""Finding the event behind a command, so that correlation and causation survive an HTTP call."""

from __future__ import annotations

from catalog.application.ports import Documents
from millrace.errors import Invalid
from millrace.events import AnyEvent, decode


async def cause_of(documents: Documents, event_id: str | None) -> AnyEvent | None:
    """Return the event from the log, or None if it is not named, not known, or not readable any more."""
    row = await documents.log.get(event_id) if event_id else None
    if row is None:
        return None
    try:
        return decode(row.raw.encode())
    except Invalid:
        return None
