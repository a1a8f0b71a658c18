"""Indexes, created where they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pymongo
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from millrace.documents import ledger
from millrace.documents.failures import translated

Database = AsyncDatabase[dict[str, Any]]
Collection = AsyncCollection[dict[str, Any]]

BUILD_SECONDS = 120
STREAM_MAX_AGE = timedelta(days=30)
"""Longest age of an event in a stream; rows that guard against its redelivery live longer."""

KEEP = STREAM_MAX_AGE + timedelta(days=2)


async def ensure_indexes(collection: Collection, indexes: Sequence[IndexModel]) -> None:
    """Create the indexes that are missing; one that exists with other options is an error.

    Raises:
        Unavailable, DeadlineExceeded: MongoDB is away, or the build takes longer than 120 s.
    """
    with translated(), pymongo.timeout(BUILD_SECONDS):
        await collection.create_indexes(list(indexes))


async def ensure_kernel_indexes(database: Database) -> None:
    """Create the indexes of outbox, inbox and audit. Sent and seen rows outlive the stream's `max_age`, then expire."""
    keep = int(KEEP.total_seconds())
    await ensure_indexes(
        database[ledger.OUTBOX],
        [
            IndexModel([("state", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="state_order"),
            IndexModel([("stream", ASCENDING), ("stream_epoch", ASCENDING)], name="stream_epoch"),
            IndexModel([("sent_at", ASCENDING)], name="sent_ttl", expireAfterSeconds=keep),
        ],
    )
    await ensure_indexes(
        database[ledger.INBOX], [IndexModel([("at", ASCENDING)], name="at_ttl", expireAfterSeconds=keep)]
    )
    await ensure_indexes(
        database[ledger.AUDIT],
        [
            IndexModel([("project", ASCENDING), ("_id", DESCENDING)], name="project_id"),
            IndexModel([("link", ASCENDING), ("_id", ASCENDING)], name="link_id"),
        ],
    )
