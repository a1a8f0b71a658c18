"""Quotas on MongoDB: what a project holds is counted whether or not there is a limit, so that one may come later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from cache_manager.adapters.entry_codec import SCHEMA_VERSION, charge_from, value
from cache_manager.adapters.mongo_sites import fits, increase
from cache_manager.domain.charge import EVERY_SITE, Charge, Quota
from millrace.documents.indexes import Collection


class MongoQuotas:
    """`Quotas` on the collection `quotas`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._quotas = collection
        self._session = session

    async def all(self, project: str | None = None) -> list[Quota]:
        """Return the quotas of a project, or all, by id."""
        query = {} if project is None else {"project": project}
        found = self._quotas.find(query, session=self._session).sort("_id", 1)
        return [_quota(document) async for document in found]

    async def limit(self, site: str, project: str, limit: Charge | None) -> Quota:
        """Set or lift a project's limit at a site, or at all (`*`)."""
        stored = await self._quotas.find_one_and_update(
            {"_id": Quota(site, project).id},
            {
                "$set": {"limit": None if limit is None else value(limit)},
                "$setOnInsert": _new(site, project),
                "$inc": {"revision": 1},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=self._session,
        )
        assert stored is not None, "an upsert returns what it stored"  # noqa: S101
        return _quota(stored)

    async def charge(self, site: str, project: str, amount: Charge) -> Quota | None:
        """Charge a project at a site and at all sites; return the quota that has no room for it, None if all have."""
        for scope in (site, EVERY_SITE):
            if not await self._charge(Quota(scope, project), amount):
                found = await self._quotas.find_one({"_id": Quota(scope, project).id}, session=self._session)
                return Quota(scope, project) if found is None else _quota(found)
        return None

    async def _charge(self, quota: Quota, amount: Charge) -> bool:
        """Count `amount`, within the limit if there is one; giving back is always possible."""
        unlimited: list[dict[str, Any]] = [{"limit": None}, {"$expr": fits(amount, "limit")}]
        where: dict[str, Any] = {"_id": quota.id}
        if amount.bytes > 0 or amount.inodes > 0:
            where["$or"] = unlimited
        result = await self._quotas.update_one(where, increase(amount), session=self._session)
        if result.matched_count:
            return True
        first = {**_new(quota.site, quota.project), "limit": None, "revision": 1, "charged": value(amount)}
        made = await self._quotas.update_one(
            {"_id": quota.id}, {"$setOnInsert": first}, upsert=True, session=self._session
        )
        return made.upserted_id is not None

    async def correct(self, charged: Mapping[tuple[str, str], Charge]) -> None:
        """Set what is charged by (site, project), and 0 everywhere else."""
        sums: dict[tuple[str, str], Charge] = {(quota.site, quota.project): Charge() for quota in await self.all()}
        for (site, project), amount in charged.items():
            sums[site, project] = amount
            sums[EVERY_SITE, project] = sums.get((EVERY_SITE, project), Charge()) + amount
        for (site, project), amount in sums.items():
            new = {**_new(site, project), "limit": None, "revision": 1}
            del new["charged"]
            await self._quotas.update_one(
                {"_id": Quota(site, project).id},
                {"$set": {"charged": value(amount)}, "$setOnInsert": new},
                upsert=True,
                session=self._session,
            )


def _new(site: str, project: str) -> dict[str, Any]:
    return {"site": site, "project": project, "charged": value(Charge()), "schema_version": SCHEMA_VERSION}


def _quota(document: Mapping[str, Any]) -> Quota:
    limit = document["limit"]
    return Quota(
        site=document["site"],
        project=document["project"],
        limit=None if limit is None else charge_from(limit),
        charged=charge_from(document["charged"]),
    )
