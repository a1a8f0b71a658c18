"""The trainer's documents in MongoDB.

    jobs      {_id: run, project, revision, schema_version, state, over, ticket, grant, lease, checkpoint, …}
    nodes     {_id: node, project: "*", revision, schema_version, token, slots: [{device, run, fence}]}
    counters  {_id: "fence" | "ticket", project: "*", revision, schema_version, value}

Jobs and nodes are changed by compare-and-set on `revision`.
"""

from __future__ import annotations

from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from millrace.documents import MongoUnitOfWork, ensure_indexes, translated
from millrace.documents.indexes import Collection, Database
from millrace.errors import Conflict
from millrace.leases import Lease, LeaseStore
from trainer.adapters.codec import SCHEMA_VERSION, job_from, job_row, node_from, node_row
from trainer.domain.devices import Node
from trainer.domain.jobs import HELD, Job, State

JOBS, NODES, COUNTERS = "jobs", "nodes", "counters"


class MongoJobs:
    """Jobs, inside a transaction if there is a session."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._collection = collection
        self._session = session

    async def get(self, run: str) -> Job | None:
        """Return a job."""
        row = await self._collection.find_one({"_id": run}, session=self._session)
        return None if row is None else job_from(row)

    async def add(self, job: Job) -> None:
        """Store a new job."""
        await self._collection.insert_one(job_row(job), session=self._session)

    async def save(self, job: Job) -> None:
        """Store a job by compare-and-set on the revision before."""
        before = {"_id": job.run, "revision": job.revision - 1}
        result = await self._collection.replace_one(before, job_row(job), session=self._session)
        if result.matched_count == 0:
            raise Conflict(f"run {job.run} changed meanwhile")

    async def in_state(self, *states: State) -> list[Job]:
        """Return all jobs in these states, oldest first."""
        return await self._find({"state": {"$in": [str(state) for state in states]}})

    async def held_by(self, node: str) -> list[Job]:
        """Return the jobs that hold devices of a node."""
        return await self._find({"grant.node": node, "state": {"$in": [str(state) for state in HELD]}})

    async def with_lease(self) -> list[Job]:
        """Return the jobs that have a cache lease."""
        return await self._find({"lease.id": {"$exists": True}})

    async def of_project(self, project: str, *, ended: int) -> list[Job]:
        """Return a project's jobs that have not ended, and the `ended` last ones that have."""
        live = await self._find({"project": project, "over": False})
        order = [("ticket", DESCENDING)]
        cursor = self._collection.find({"project": project, "over": True}, sort=order, limit=max(1, ended))
        return [*live, *([job_from(row) async for row in cursor] if ended else [])]

    async def _find(self, where: dict[str, Any]) -> list[Job]:
        cursor = self._collection.find(where, sort=[("ticket", ASCENDING)], session=self._session)
        return [job_from(row) async for row in cursor]


class MongoNodes:
    """Nodes, inside a transaction if there is a session."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._collection = collection
        self._session = session

    async def all(self) -> list[Node]:
        """Return every node."""
        cursor = self._collection.find({}, sort=[("_id", ASCENDING)], session=self._session)
        return [node_from(row) async for row in cursor]

    async def get(self, name: str) -> Node | None:
        """Return a node."""
        row = await self._collection.find_one({"_id": name}, session=self._session)
        return None if row is None else node_from(row)

    async def save(self, node: Node) -> None:
        """Store a node by compare-and-set on the revision before; a new one has revision 1."""
        row = node_row(node)
        if node.revision == 1:
            await self._collection.insert_one(row, session=self._session)
            return
        before = {"_id": node.name, "revision": node.revision - 1}
        result = await self._collection.replace_one(before, row, session=self._session)
        if result.matched_count == 0:
            raise Conflict(f"node {node.name} changed meanwhile")


class MongoTrainer(MongoUnitOfWork):
    """One transaction of the trainer."""

    jobs: MongoJobs
    nodes: MongoNodes

    def setup(self) -> None:
        """Build the repositories of this transaction."""
        self.jobs = MongoJobs(self.database[JOBS], self.session)
        self.nodes = MongoNodes(self.database[NODES], self.session)

    async def next(self, counter: str) -> int:
        """Return the next value of a counter that only rises."""
        change = {
            "$inc": {"value": 1, "revision": 1},
            "$setOnInsert": {"project": "*", "schema_version": SCHEMA_VERSION},
        }
        row = await self.database[COUNTERS].find_one_and_update(
            {"_id": counter}, change, upsert=True, return_document=ReturnDocument.AFTER, session=self.session
        )
        return int(row["value"]) if row else 0

    async def guard(self, lease: Lease) -> None:
        """Let this transaction fail if `lease` is lost before it commits."""
        await LeaseStore(self.database).guard(lease, self.session)


class MongoQueue:
    """Reads outside of transactions, with driver errors as ours."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs = MongoJobs(database[JOBS])
        self._nodes = MongoNodes(database[NODES])

    async def get(self, run: str) -> Job | None:
        """Return a job."""
        with translated():
            return await self._jobs.get(run)

    async def in_state(self, *states: State) -> list[Job]:
        """Return all jobs in these states, oldest first."""
        with translated():
            return await self._jobs.in_state(*states)

    async def held_by(self, node: str) -> list[Job]:
        """Return the jobs that hold devices of a node."""
        with translated():
            return await self._jobs.held_by(node)

    async def with_lease(self) -> list[Job]:
        """Return the jobs that have a cache lease, whatever their state."""
        with translated():
            return await self._jobs.with_lease()

    async def of_project(self, project: str, *, ended: int) -> list[Job]:
        """Return a project's jobs that have not ended, and the `ended` last ones that have."""
        with translated():
            return await self._jobs.of_project(project, ended=ended)

    async def nodes(self) -> list[Node]:
        """Return every node."""
        with translated():
            return await self._nodes.all()

    async def counter(self, name: str) -> int:
        """Return the last value of a counter."""
        with translated():
            row = await self._database[COUNTERS].find_one({"_id": name})
        return int(row["value"]) if row else 0

    async def all_jobs(self) -> list[Job]:
        """Return every job there is; for fsck."""
        with translated():
            return [job_from(row) async for row in self._database[JOBS].find({}, sort=[("ticket", ASCENDING)])]


async def ensure_trainer_indexes(database: Database) -> None:
    """Create the indexes of the trainer's own collections."""
    await ensure_indexes(
        database[JOBS],
        [
            IndexModel([("state", ASCENDING), ("ticket", ASCENDING)], name="state_ticket"),
            IndexModel([("project", ASCENDING), ("over", ASCENDING), ("ticket", DESCENDING)], name="project_ticket"),
            IndexModel([("grant.node", ASCENDING)], name="node", sparse=True),
            IndexModel([("lease.id", ASCENDING)], name="lease", sparse=True),
        ],
    )
