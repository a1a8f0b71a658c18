"""I11: the audit chain is unbroken; a row that was altered, removed or inserted shows."""

from __future__ import annotations

from catalog.application.fsck.report import PAGE, Report
from catalog.application.ports import Documents
from catalog.application.sequencer import CHAIN, GENESIS, link_digest


async def check_trail(report: Report, *, documents: Documents) -> None:
    """Walk the chain from its beginning to its end."""
    length = await documents.counter(CHAIN)
    position, digest = 0, GENESIS
    while position < length:
        rows = await documents.trail.find({}, order="link.position", after=position, limit=PAGE)
        if not rows:
            break
        for row in rows:
            link = row.link
            fits = link is not None and (link.position, link.previous) == (position + 1, digest)
            fits = fits and link is not None and link.digest == link_digest(row, position + 1, digest)
            report.expect(fits, "I11", "the audit chain is broken here", f"audit:{row.id}")
            position, digest = position + 1, link.digest if link else digest
    report.expect(position == length, "I11", f"the audit chain ends at {position} instead of {length}", "audit")
