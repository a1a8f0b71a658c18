"""The cache manager's transaction, and the indexes of its database."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

from cache_manager.adapters.mongo_entries import MongoEntries
from cache_manager.adapters.mongo_sites import MongoSites
from cache_manager.application.ports import Entries, Sites
from millrace.documents import MongoUnitOfWork, ensure_indexes
from millrace.documents.indexes import Database
from millrace.documents.migrations import Migration
from millrace.leases import Lease, LeaseStore

ENTRIES = "entries"
SITES = "sites"


class CacheUnitOfWork(MongoUnitOfWork):
    """One transaction with sites and entries."""

    def setup(self) -> None:
        """Build the repositories of this transaction."""
        self.sites: Sites = MongoSites(self.database[SITES], self.session)
        self.entries: Entries = MongoEntries(self.database[ENTRIES], self.session)

    async def guard(self, lease: Lease) -> None:
        """Let the transaction fail if the worker's lease is lost before it commits."""
        await LeaseStore(self.database, clock=self.clock).guard(lease, self.session)


async def _indexes(database: Database) -> None:
    await ensure_indexes(
        database[ENTRIES],
        [
            IndexModel([("site", ASCENDING), ("state", ASCENDING)], name="site_state"),
            IndexModel([("project", ASCENDING), ("_id", ASCENDING)], name="project_id"),
            IndexModel([("state", ASCENDING), ("created_at", ASCENDING)], name="state_created"),
        ],
    )


MIGRATIONS = [Migration(1, "indexes of entries", _indexes)]
