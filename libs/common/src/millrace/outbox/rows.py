"""The outbox collection as the relay sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from pymongo import ASCENDING

from millrace.documents import ledger
from millrace.documents.failures import translated
from millrace.documents.indexes import STREAM_MAX_AGE, Database
from millrace.publishing import Published


@dataclass(frozen=True)
class Row:
    """One event that waits."""

    id: str
    aggregate: str
    sequence: int
    subject: str
    raw: bytes
    headers: dict[str, str]
    created_at: datetime


class OutboxRows:
    """Reads and marks outbox rows."""

    def __init__(self, database: Database) -> None:
        self._rows = database[ledger.OUTBOX]
        self._streams = database[ledger.STREAMS]

    async def pending(self, limit: int, *, without: Collection[str]) -> list[Row]:
        """Return the oldest rows that wait, leaving out the aggregates in `without`."""
        query: dict[str, Any] = {"state": ledger.PENDING}
        if without:
            query["aggregate"] = {"$nin": list(without)}
        with translated():
            found = self._rows.find(query).sort([("created_at", ASCENDING), ("_id", ASCENDING)]).limit(limit)
            return [_row(document) async for document in found]

    async def count(self) -> int:
        """Return how many rows wait (at most 10,000 are counted)."""
        with translated():
            return int(await self._rows.count_documents({"state": ledger.PENDING}, limit=10_000))

    async def mark_sent(self, sent: Sequence[tuple[str, Published]], *, epochs: dict[str, str], now: datetime) -> None:
        """Record that the broker has stored these rows, in the streams of these epochs."""
        by_stream = sorted(sent, key=lambda item: item[1].stream)
        with translated():
            for stream, group in groupby(by_stream, key=lambda item: item[1].stream):
                change = {
                    "state": ledger.SENT,
                    "stream": stream,
                    "stream_epoch": epochs.get(stream),
                    "sent_at": now,
                }
                ids = [row_id for row_id, _ in group]
                await self._rows.update_many({"_id": {"$in": ids}, "state": ledger.PENDING}, {"$set": change})

    async def known_epoch(self, stream: str) -> str | None:
        """Return the creation time of `stream` that was seen last."""
        with translated():
            found = await self._streams.find_one({"_id": stream})
        return None if found is None else str(found["epoch"])

    async def reopen(self, stream: str, epoch: str, now: datetime, *, max_age: timedelta = STREAM_MAX_AGE) -> int:
        """Let everything be sent again that went into earlier lives of `stream`, then record the new epoch.

        Returns the number of rows. A crash in between does it again.
        """
        lost = {
            "state": ledger.SENT,
            "stream": stream,
            "stream_epoch": {"$ne": epoch},
            "created_at": {"$gt": now - max_age},
        }
        with translated():
            again = {"$set": {"state": ledger.PENDING, "sent_at": None}}
            result = await self._rows.update_many(lost, again)
            await self._streams.update_one({"_id": stream}, {"$set": {"epoch": epoch, "seen_at": now}}, upsert=True)
        return result.modified_count


def chains(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Split rows into one chain per aggregate, each in the order of `sequence`; chains keep the order of the rows."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.aggregate, []).append(row)
    for chain in found.values():
        yield sorted(chain, key=lambda row: (row.sequence, row.id))


def _row(document: dict[str, Any]) -> Row:
    return Row(
        id=str(document["_id"]),
        aggregate=str(document["aggregate"]),
        sequence=int(document["sequence"]),
        subject=str(document["subject"]),
        raw=bytes(document["raw"]),
        headers=dict(document.get("headers") or {}),
        created_at=document["created_at"],
    )
