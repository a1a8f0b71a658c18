"""I4 and I5: our events were published and came back to us, policies dealt with them, and executed once."""

from __future__ import annotations

from datetime import timedelta

from catalog.application.fsck.report import Report
from catalog.application.ports import Documents
from millrace.clock import Clock

BOUND = timedelta(seconds=60)
"""How long an event may be on its way."""
SHOWN = 100


async def check_events(report: Report, *, documents: Documents, clock: Clock) -> None:
    """Check that no event is stuck."""
    late = clock.now() - BOUND
    for row in await documents.log.find({"delivered": False}, limit=SHOWN):
        report.expect(row.at > late, "I5", f"{row.type} was not delivered for {BOUND}", f"event:{row.id}")
    for row in await documents.log.find({"policies": "due"}, limit=SHOWN):
        report.expect(row.at > late, "I12", f"policies did not deal with {row.type} for {BOUND}", f"event:{row.id}")
    for row in await documents.log.find({"position": None}, limit=SHOWN):
        report.expect(row.at > late, "I12", f"{row.type} got no position for {BOUND}", f"event:{row.id}")
    numbered = await documents.counter("event-log")
    without = await documents.log.count({"position": None})
    total = await documents.log.count({})
    report.expect(total - without >= numbered, "I5", f"{total - without} of {numbered} numbered events", "event-log")
