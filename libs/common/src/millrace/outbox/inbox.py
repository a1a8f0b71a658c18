"""What has been done already. The transactor writes it in the transaction of the effect; rows expire by TTL.

The TTL is longer than the stream's `max_age`, so that no message that can still be delivered is forgotten here.
"""

from __future__ import annotations

from millrace.documents import ledger
from millrace.documents.failures import translated
from millrace.documents.indexes import Database


class Inbox:
    """Reads the inbox of one database; tests, `fsck` and people ask it."""

    def __init__(self, database: Database) -> None:
        self._collection = database[ledger.INBOX]

    async def seen(self, consumer: str, event_id: str) -> bool:
        """Return whether the effect of this event on this consumer is committed."""
        with translated():
            key = {"consumer": consumer, "event": event_id}
            return await self._collection.find_one({"_id": key}, {"_id": 1}) is not None

    async def count(self, consumer: str) -> int:
        """Return how many events this consumer has handled and still remembers."""
        with translated():
            return int(await self._collection.count_documents({"_id.consumer": consumer}))
