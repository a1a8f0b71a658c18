"""Finding the event behind a command, so that correlation and causation survive an HTTP call."""

from __future__ import annotations

from catalog.application.ports import Documents
from millrace.errors import Invalid
from millrace.events import AnyEvent, decode


async def cause_of(documents: Documents, *event_ids: str | None) -> AnyEvent | None:
    """Return the first of the named events that the log has, or None if it has none that can be read."""
    for event_id in filter(None, event_ids):
        row = await documents.log.get(event_id)
        if row is not None:
            try:
                return decode(row.raw.encode())
            except Invalid:
                continue
    return None
