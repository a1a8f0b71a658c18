"""Ingest's transaction, and the indexes of its database."""

from __future__ import annotations

from pymongo import ASCENDING, DESCENDING, IndexModel

from ingest.adapters.mongo_jobs import MongoJobs
from ingest.application.ports import Jobs
from millrace.documents import MongoUnitOfWork, ensure_indexes
from millrace.documents.indexes import Database
from millrace.documents.migrations import Migration
from millrace.leases import Lease, LeaseStore

JOBS = "jobs"


class IngestUnitOfWork(MongoUnitOfWork):
    """One transaction with jobs."""

    def setup(self) -> None:
        """Build the repository of this transaction."""
        self.jobs: Jobs = MongoJobs(self.database[JOBS], self.session)

    async def guard(self, lease: Lease) -> None:
        """Let the transaction fail if the worker's lease is lost before it commits."""
        await LeaseStore(self.database, clock=self.clock).guard(lease, self.session)


async def _indexes(database: Database) -> None:
    await ensure_indexes(
        database[JOBS],
        [
            IndexModel([("state", ASCENDING), ("created_at", ASCENDING)], name="state_created"),
            IndexModel(
                [("project", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="project_created"
            ),
            IndexModel(
                [("project", ASCENDING), ("dataset", ASCENDING), ("uri", ASCENDING)], name="project_dataset_uri"
            ),
        ],
    )


MIGRATIONS = [Migration(1, "indexes of jobs", _indexes)]
