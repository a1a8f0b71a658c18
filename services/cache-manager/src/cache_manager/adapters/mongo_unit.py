"""The cache manager's transaction."""

from __future__ import annotations

from cache_manager.adapters.migrations import MIGRATIONS
from cache_manager.adapters.mongo_entries import MongoEntries
from cache_manager.adapters.mongo_prefetch import MongoPrefetches
from cache_manager.adapters.mongo_quotas import MongoQuotas
from cache_manager.adapters.mongo_rules import MongoRules
from cache_manager.adapters.mongo_sites import MongoSites
from cache_manager.adapters.names import ENTRIES, PREFETCH, QUOTAS, RETENTION, SITES
from cache_manager.application.ports import Entries, Prefetches, Quotas, Rules, Sites
from millrace.documents import MongoUnitOfWork
from millrace.leases import Lease, LeaseStore

__all__ = ["ENTRIES", "MIGRATIONS", "PREFETCH", "QUOTAS", "RETENTION", "SITES", "CacheUnitOfWork"]


class CacheUnitOfWork(MongoUnitOfWork):
    """One transaction with sites and entries."""

    def setup(self) -> None:
        """Build the repositories of this transaction."""
        self.sites: Sites = MongoSites(self.database[SITES], self.session)
        self.entries: Entries = MongoEntries(self.database[ENTRIES], self.session)
        self.quotas: Quotas = MongoQuotas(self.database[QUOTAS], self.session)
        self.prefetches: Prefetches = MongoPrefetches(self.database[PREFETCH], self.session)
        self.rules: Rules = MongoRules(self.database[RETENTION], self.session)

    async def guard(self, lease: Lease) -> None:
        """Let the transaction fail if the worker's lease is lost before it commits."""
        await LeaseStore(self.database, clock=self.clock).guard(lease, self.session)
