"""Two orders given afterwards: positions in the event log, and links in the audit chain.

Rows are written by many transactions at once; a counter inside those would make them wait for each other. So rows are
written without a place, and one step gives places in batches. The counter is written in the same transaction as the
rows, so that of two steps at once one is refused and tried again: whoever sees a position has seen all before it.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from blake3 import blake3

from catalog.application.ports import Unit
from catalog.domain.records import AuditRow, Link
from millrace.events import canonical_json

EVENTS = "event-log"
CHAIN = "audit-chain"
BATCH = 500
GENESIS = "0" * 64


async def number_events(uow: Unit) -> int:
    """Give positions to events that have none. Returns how many."""
    rows = await uow.log.find({"position": None}, limit=BATCH)
    if rows:
        first = await uow.advance_counter(EVENTS, len(rows)) + 1
        for place, row in enumerate(rows):
            await uow.log.save(replace(row, position=first + place))
    return len(rows)


async def chain_audit(uow: Unit) -> int:
    """Link audit rows that are not linked yet to the chain. Returns how many."""
    rows = await uow.trail.find({"link": None}, limit=BATCH)
    if not rows:
        return 0
    before = await uow.advance_counter(CHAIN, len(rows))
    last = await uow.trail.find({"link.position": before}, limit=1) if before else []
    digest = last[0].link.digest if last and last[0].link else GENESIS
    for place, row in enumerate(rows, start=before + 1):
        link = Link(position=place, previous=digest, digest=link_digest(row, place, digest))
        digest = link.digest
        await uow.trail.save(replace(row, link=link))
    return len(rows)


def link_digest(row: AuditRow, position: int, previous: str) -> str:
    """Return the digest of a row in its place: over everything it says and the digest before."""
    said = asdict(replace(row, link=None, revision=0))
    said["at"] = row.at.isoformat()
    return blake3(canonical_json([position, previous, said])).hexdigest()
