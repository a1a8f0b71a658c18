"""Prefetch rules on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from cache_manager.adapters.entry_codec import SCHEMA_VERSION
from cache_manager.domain.prefetch import Prefetch
from millrace.documents.indexes import Collection


class MongoPrefetches:
    """`Prefetches` on the collection `prefetch`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._rules = collection
        self._session = session

    async def all(self, project: str | None = None) -> list[Prefetch]:
        """Return the rules of a project, or all, by id."""
        found = self._rules.find({} if project is None else {"project": project}, session=self._session).sort("_id", 1)
        return [_rule(row) async for row in found]

    async def put(self, rule: Prefetch) -> None:
        """Create or replace a rule; one that is replaced begins its schedule anew."""
        fields = {**asdict(rule), "schema_version": SCHEMA_VERSION}
        change = {"$set": fields, "$inc": {"revision": 1}}
        await self._rules.update_one({"_id": rule.id}, change, upsert=True, session=self._session)

    async def remove(self, project: str, name: str) -> bool:
        """Remove a rule; False if there is none."""
        where = {"_id": Prefetch(project, name, "commit").id}
        return (await self._rules.delete_one(where, session=self._session)).deleted_count == 1

    async def acted(self, rule: Prefetch, at: datetime | None, problem: str) -> bool:
        """Record when a rule acted, and why it could not; False if it did meanwhile, or is another one."""
        where = {"_id": rule.id, "last": rule.last}
        result = await self._rules.update_one(where, {"$set": {"last": at, "problem": problem}}, session=self._session)
        return result.matched_count == 1


def _rule(row: Mapping[str, Any]) -> Prefetch:
    return Prefetch(**{name: row[name] for name in Prefetch.__dataclass_fields__ if name in row})
