"""What is remembered, on MongoDB: repositories that work inside a transaction, and outside for reading."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession

from drift_monitor.adapters import documents
from drift_monitor.application.ports import ClosedWindow, Page
from drift_monitor.domain.checkpoint import Checkpoint, checkpoint_id
from drift_monitor.domain.incidents import GATHERING, OPEN, Incident
from drift_monitor.domain.labels import LabelQueue
from drift_monitor.domain.watch import Watch, watch_id
from drift_monitor.errors import CheckpointConflict
from millrace.clock import Clock
from millrace.documents import MongoUnitOfWork, ensure_indexes, translated
from millrace.documents.indexes import Collection, Database
from millrace.errors import Conflict, Fenced

Query = dict[str, Any]


class _Repository:
    """One collection. Driver errors are translated outside a transaction; inside, the transactor reads them."""

    name: str

    def __init__(self, database: Database, session: AsyncClientSession | None, clock: Clock) -> None:
        self._rows: Collection = database[self.name]
        self._session = session
        self._clock = clock

    def _guard(self) -> AbstractContextManager[None]:
        return translated() if self._session is None else contextlib.nullcontext()

    async def _one(self, key: str) -> documents.Document | None:
        with self._guard():
            return await self._rows.find_one({"_id": key}, session=self._session)

    async def _many(
        self, query: Query, *, sort: tuple[str, int] = ("_id", ASCENDING), limit: int = 0, hide: tuple[str, ...] = ()
    ) -> list[documents.Document]:
        with self._guard():
            cursor = self._rows.find(query, dict.fromkeys(hide, 0) or None, session=self._session)
            return await cursor.sort([sort]).limit(limit).to_list()

    async def _insert(self, key: str, document: documents.Document, revision: int = 1) -> None:
        now = self._clock.now()
        row = {**document, "_id": key, "revision": revision, "created_at": now, "updated_at": now}
        with self._guard():
            await self._rows.insert_one(row, session=self._session)

    async def _swap(self, query: Query, document: documents.Document, revision: int) -> bool:
        """Set all fields of the document that `query` and `revision` name; False if there is none."""
        change = {"$set": {**document, "revision": revision + 1, "updated_at": self._clock.now()}}
        with self._guard():
            result = await self._rows.update_one({**query, "revision": revision}, change, session=self._session)
        return result.matched_count == 1


class MongoWatches(_Repository):
    """`Watches`."""

    name = "watches"

    async def get(self, project: str, deployment: str, deployment_revision: int) -> Watch | None:
        """Return a watch."""
        found = await self._one(watch_id(project, deployment, deployment_revision))
        return documents.watch_entity(found) if found else None

    async def add(self, watch: Watch) -> bool:
        """Add a watch; False if its revision is watched already."""
        if await self._one(watch.id) is not None:
            return False
        await self._insert(watch.id, documents.watch_document(watch))
        return True

    async def save(self, watch: Watch) -> Watch:
        """Replace the document that has this revision."""
        document = documents.watch_document(watch)
        del document["_id"], document["revision"]
        if not await self._swap({"_id": watch.id}, document, watch.revision):
            raise Conflict(f"watch {watch.id} changed since it was read")
        return replace(watch, revision=watch.revision + 1)

    async def every(self) -> Sequence[Watch]:
        """Return all watches, newest revisions last."""
        rows = await self._many({}, sort=("deployment_revision", ASCENDING))
        return [documents.watch_entity(row) for row in rows]


class MongoCheckpoints(_Repository):
    """`Checkpoints`."""

    name = "checkpoints"

    async def get(self, project: str, deployment: str) -> Checkpoint | None:
        """Return a deployment's checkpoint."""
        found = await self._one(checkpoint_id(project, deployment))
        return documents.checkpoint_entity(found) if found else None

    async def save(self, checkpoint: Checkpoint) -> Checkpoint:
        """Replace the document of this revision whose token is not newer, or create it."""
        document = documents.checkpoint_document(checkpoint)
        if checkpoint.revision == 0:
            await self._insert(checkpoint.id, document)
            return replace(checkpoint, revision=1)
        owned = {"_id": checkpoint.id, "token": {"$lte": checkpoint.token}}
        if await self._swap(owned, document, checkpoint.revision):
            return replace(checkpoint, revision=checkpoint.revision + 1)
        found = await self._one(checkpoint.id)
        if found is not None and found["token"] > checkpoint.token:
            raise Fenced(f"checkpoint {checkpoint.id} has a newer owner")
        raise CheckpointConflict(f"checkpoint {checkpoint.id} changed since it was read")

    async def every(self) -> Sequence[Checkpoint]:
        """Return all checkpoints."""
        return [documents.checkpoint_entity(row) for row in await self._many({})]


class MongoWindows(_Repository):
    """`Windows`."""

    name = "windows"

    async def add(self, closed: ClosedWindow) -> None:
        """Add a closed window."""
        document = documents.closed_document(closed)
        await self._insert(document["_id"], document)

    async def page(self, project: str, deployment: str, revision: int, *, limit: int, before: int | None) -> Page:
        """Return the closed windows of a deployment's revision as documents, newest first."""
        query: Query = {"project": project, "deployment": deployment, "deployment_revision": revision}
        if before is not None:
            query["number"] = {"$lt": before}
        return await self._many(query, sort=("number", DESCENDING), limit=limit, hide=("counts", "exemplars"))

    async def census(self) -> dict[str, tuple[int, int, int]]:
        """Return for each checkpoint id (windows, rows, highest number) of its closed windows."""
        group = {
            "_id": {"$concat": ["$project", "/", "$deployment"]},
            "windows": {"$sum": 1},
            "rows": {"$sum": "$rows"},
            "highest": {"$max": "$number"},
        }
        with self._guard():
            cursor = await self._rows.aggregate([{"$group": group}], session=self._session)
            rows = await cursor.to_list()
        return {row["_id"]: (row["windows"], row["rows"], row["highest"]) for row in rows}


class MongoIncidents(_Repository):
    """`Incidents`."""

    name = "incidents"

    async def get(self, incident: str) -> Incident | None:
        """Return an incident."""
        found = await self._one(incident)
        return documents.incident_entity(found) if found else None

    async def add(self, incident: Incident) -> None:
        """Add an incident."""
        await self._insert(incident.id, documents.incident_document(incident))

    async def save(self, incident: Incident) -> Incident:
        """Replace the document that has this revision."""
        if not await self._swap({"_id": incident.id}, documents.incident_document(incident), incident.revision):
            raise Conflict(f"incident {incident.id} changed since it was read")
        return replace(incident, revision=incident.revision + 1)

    async def gathering(self) -> Sequence[Incident]:
        """Return the open incidents that have not asked for labels yet."""
        return [documents.incident_entity(row) for row in await self._many({"state": OPEN, "labels": GATHERING})]

    async def last_asked(self, project: str, deployment: str) -> int | None:
        """Return the window at which labels were last asked for."""
        query = {"project": project, "deployment": deployment, "asked_window": {"$ne": None}}
        found = await self._many(query, sort=("asked_window", DESCENDING), limit=1)
        return int(found[0]["asked_window"]) if found else None

    async def every(self) -> Sequence[Incident]:
        """Return all incidents."""
        return [documents.incident_entity(row) for row in await self._many({})]

    async def page(self, project: str, *, deployment: str | None, state: str | None, limit: int) -> Page:
        """Return incidents as documents, newest first."""
        query: Query = {"project": project}
        query |= {"deployment": deployment} if deployment else {}
        query |= {"state": state} if state else {}
        return await self._many(query, sort=("created_at", DESCENDING), limit=limit, hide=("candidates", "cause"))


class MongoQueues(_Repository):
    """`Queues`."""

    name = "label_queues"

    async def get(self, queue: str) -> LabelQueue | None:
        """Return a queue."""
        found = await self._one(queue)
        return documents.queue_entity(found) if found else None

    async def add(self, queue: LabelQueue) -> None:
        """Add a queue."""
        await self._insert(queue.id, documents.queue_document(queue))

    async def save(self, queue: LabelQueue) -> LabelQueue:
        """Replace the document that has this revision."""
        if not await self._swap({"_id": queue.id}, documents.queue_document(queue), queue.revision):
            raise Conflict(f"label queue {queue.id} changed since it was read")
        return replace(queue, revision=queue.revision + 1)

    async def in_state(self, state: str) -> Sequence[LabelQueue]:
        """Return the queues of all projects that are in this state."""
        return [documents.queue_entity(row) for row in await self._many({"state": state})]

    async def every(self) -> Sequence[LabelQueue]:
        """Return all queues."""
        return [documents.queue_entity(row) for row in await self._many({})]

    async def page(self, project: str, *, state: str | None, limit: int) -> Sequence[LabelQueue]:
        """Return queues, newest first."""
        query: Query = {"project": project} | ({"state": state} if state else {})
        return [
            documents.queue_entity(row) for row in await self._many(query, sort=("created_at", DESCENDING), limit=limit)
        ]


class Kept:
    """All repositories, in a transaction or, without a session, for reading."""

    def __init__(self, database: Database, session: AsyncClientSession | None, clock: Clock) -> None:
        self.watches = MongoWatches(database, session, clock)
        self.checkpoints = MongoCheckpoints(database, session, clock)
        self.windows = MongoWindows(database, session, clock)
        self.incidents = MongoIncidents(database, session, clock)
        self.queues = MongoQueues(database, session, clock)


class MonitorMongoUnitOfWork(MongoUnitOfWork):
    """One transaction over everything that the monitor remembers."""

    def setup(self) -> None:
        """Build the repositories of this transaction."""
        kept = Kept(self.database, self.session, self.clock)
        self.watches = kept.watches
        self.checkpoints = kept.checkpoints
        self.windows = kept.windows
        self.incidents = kept.incidents
        self.queues = kept.queues


async def ensure_monitor_indexes(database: Database) -> None:
    """Create the collections' indexes; transactions cannot create a collection implicitly on every server."""
    by_deployment = [("project", ASCENDING), ("deployment", ASCENDING)]
    await ensure_indexes(database[MongoWatches.name], [IndexModel(by_deployment, name="deployment")])
    await ensure_indexes(database[MongoCheckpoints.name], [IndexModel(by_deployment, name="deployment")])
    await ensure_indexes(
        database[MongoWindows.name],
        [IndexModel([*by_deployment, ("number", DESCENDING)], name="deployment_number", unique=True)],
    )
    await ensure_indexes(
        database[MongoIncidents.name],
        [
            IndexModel([*by_deployment, ("asked_window", DESCENDING)], name="deployment_asked"),
            IndexModel([("state", ASCENDING), ("labels", ASCENDING)], name="state_labels"),
        ],
    )
    await ensure_indexes(
        database[MongoQueues.name],
        [
            IndexModel([("state", ASCENDING), ("project", ASCENDING)], name="state_project"),
            IndexModel([("incident", ASCENDING)], name="incident", unique=True),
        ],
    )
