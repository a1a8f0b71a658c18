"""Ingestion jobs on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from ingest.domain.jobs import ENDED, Cause, Job, Move, State, after
from millrace.documents.indexes import Collection
from millrace.errors import Fenced

SCHEMA_VERSION = 1
MAX_WAITING = 1_000


class MongoJobs:
    """`Jobs` on the collection `jobs`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._jobs = collection
        self._session = session

    async def get(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        found = await self._jobs.find_one({"_id": job_id}, session=self._session)
        return None if found is None else _job(found)

    async def add(self, job: Job) -> bool:
        """Store a new job; False if its id is taken."""
        try:
            await self._jobs.insert_one(_document(job), session=self._session)
        except DuplicateKeyError:
            return False
        return True

    async def waiting(self) -> list[Job]:
        """Return the jobs that have not ended, oldest first."""
        states = [state.value for state in State if state not in ENDED]
        cursor = self._jobs.find({"state": {"$in": states}}, session=self._session)
        return [_job(found) async for found in cursor.sort([("created_at", 1), ("_id", 1)]).limit(MAX_WAITING)]

    async def find(self, where: Mapping[str, Any], *, before: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs whose fields equal `where`, newest first, older than the job `before`."""
        query = {name: {"$in": list(value)} if isinstance(value, tuple) else value for name, value in where.items()}
        last = await self.get(before) if before is not None else None
        if last is not None:
            same = {"created_at": last.created_at, "_id": {"$lt": last.id}}
            query["$or"] = [{"created_at": {"$lt": last.created_at}}, same]
        cursor = self._jobs.find(query, session=self._session).sort([("created_at", -1), ("_id", -1)]).limit(limit)
        return [_job(found) async for found in cursor]

    async def claim(self, job_id: str, token: int) -> Job | None:
        """Record a worker's token, unless a higher one was seen; return the job as it is then."""
        return await self._change({"_id": job_id, "token": {"$lte": token}}, {"$set": {"token": token}})

    async def move(self, job: Job, move: Move, **changes: Any) -> Job:
        """Change the state and further fields, if state and token are still those of `job`."""
        return await self.note(job, state=after(job.state, move), **changes)

    async def note(self, job: Job, **changes: Any) -> Job:
        """Change fields, if state and token are still those of `job`."""
        where = {"_id": job.id, "state": job.state.value, "token": job.token}
        fields = {name: _value(field) for name, field in changes.items()}
        changed = await self._change(where, {"$set": fields, "$inc": {"revision": 1}})
        if changed is None:
            raise Fenced(f"job {job.id} went on without this worker", job=job.id)
        return changed

    async def _change(self, where: Mapping[str, Any], change: Mapping[str, Any]) -> Job | None:
        changed = await self._jobs.find_one_and_update(
            where, change, return_document=ReturnDocument.AFTER, session=self._session
        )
        return None if changed is None else _job(changed)


def _document(job: Job) -> dict[str, Any]:
    fields = {name: _value(getattr(job, name)) for name in Job.__dataclass_fields__ if name != "id"}
    return {"_id": job.id, **fields, "schema_version": SCHEMA_VERSION}


def _job(document: dict[str, Any]) -> Job:
    fields = {name: document[name] for name in Job.__dataclass_fields__ if name in document}
    fields.update(id=document["_id"], state=State(document["state"]), cause=Cause(**document["cause"]))
    return Job(**fields)


def _value(field: Any) -> Any:
    if isinstance(field, State):
        return field.value
    if isinstance(field, Cause):
        return asdict(field)
    if isinstance(field, tuple):
        return list(field)
    return dict(field) if isinstance(field, Mapping) else field
