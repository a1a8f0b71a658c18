"""How long unused copies stay, on MongoDB."""

from __future__ import annotations

from pymongo.asynchronous.client_session import AsyncClientSession

from cache_manager.adapters.entry_codec import SCHEMA_VERSION
from cache_manager.domain.retention import Rule
from millrace.documents.indexes import Collection


class MongoRules:
    """`Rules` on the collection `retention`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._rules = collection
        self._session = session

    async def all(self) -> list[Rule]:
        """Return every rule by id."""
        found = self._rules.find(session=self._session).sort("_id", 1)
        return [Rule(row["project"], row["dataset"], float(row["seconds"])) async for row in found]

    async def put(self, rule: Rule) -> None:
        """Create or replace a rule."""
        fields = {"project": rule.project, "dataset": rule.dataset, "seconds": rule.seconds}
        change = {"$set": {**fields, "schema_version": SCHEMA_VERSION}, "$inc": {"revision": 1}}
        await self._rules.update_one({"_id": rule.id}, change, upsert=True, session=self._session)

    async def remove(self, project: str, dataset: str | None) -> bool:
        """Remove a rule; False if there is none."""
        gone = await self._rules.delete_one({"_id": Rule(project, dataset, 0.0).id}, session=self._session)
        return gone.deleted_count == 1
