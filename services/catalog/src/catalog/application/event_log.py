"""Reading the event log: a page, or a stream that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from catalog.application.catalog import Bell
from catalog.application.ports import Documents
from catalog.application.sequencer import EVENTS
from catalog.domain.records import LogRow

PAGE = 200
QUIET_SECONDS = 15.0
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Filter:
    """Which events are meant; what is None does not matter."""

    project: str
    correlation: str | None = None
    type: str | None = None
    subject: str | None = None

    def where(self) -> dict[str, Any]:
        """Return the fields that must be equal."""
        wanted = {"correlation": self.correlation, "type": self.type, "subject": self.subject}
        return {"project": self.project, **{name: value for name, value in wanted.items() if value is not None}}


async def read_events(
    wanted: Filter, *, after: int | None, limit: int, documents: Documents, newest_first: bool = False
) -> list[LogRow]:
    """Return events in order of position, beyond one; newest first: backwards, from the end or from that position."""
    start = after if newest_first or after is not None else 0
    found = documents.log.find(wanted.where(), order="position", descending=newest_first, after=start, limit=limit)
    return [row for row in await found if row.position is not None]


async def follow_events(
    wanted: Filter, *, after: int | None, documents: Documents, bell: Bell
) -> AsyncIterator[LogRow | None]:
    """Yield events beyond a position as they come, for ever; None when there was none for a while.

    Without a position it begins with what comes next.
    """
    position = await documents.counter(EVENTS) if after is None else after
    quiet = 0.0
    while True:
        rows = await read_events(wanted, after=position, limit=PAGE, documents=documents)
        for row in rows:
            yield row
            position = row.position or position
        if rows:
            quiet = 0.0
            continue
        await bell.wait(POLL_SECONDS)
        quiet += POLL_SECONDS
        if quiet >= QUIET_SECONDS:
            quiet = 0.0
            yield None
