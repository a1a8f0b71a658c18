"""Sites on MongoDB: room is promised by one compare-and-set on the site's document."""

from __future__ import annotations

from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from cache_manager.adapters.entry_codec import SCHEMA_VERSION, site_from, value
from cache_manager.domain.charge import Charge, Site
from cache_manager.domain.links import DEFAULTS, WEIGHT, Measure
from millrace.documents.indexes import Collection

EVERY_PROJECT = "*"


class MongoSites:
    """`Sites` on the collection `sites`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._sites = collection
        self._session = session

    async def get(self, site: str) -> Site | None:
        """Return a site, or None."""
        found = await self._sites.find_one({"_id": site}, session=self._session)
        return None if found is None else site_from(found)

    async def all(self) -> list[Site]:
        """Return every site by name."""
        return [site_from(found) async for found in self._sites.find(session=self._session).sort("_id", 1)]

    async def put(self, site: Site) -> Site:
        """Create a site, or change its path, capacity and origin; it is prepared anew."""
        stored = await self._sites.find_one_and_update(
            {"_id": site.id},
            {
                "$set": {
                    "path": site.path,
                    "capacity": value(site.capacity),
                    "origin": site.origin,
                    "age_out": site.age_out,
                    **{f"links.{name}.label": getattr(site.links, name).label for name in DEFAULTS},
                    "prepared": False,
                    "schema_version": SCHEMA_VERSION,
                },
                "$setOnInsert": {
                    "project": EVERY_PROJECT,
                    "charged": value(Charge()),
                    "draining": False,
                    **{f"links.{name}.{part}": 0 for name in DEFAULTS for part in ("value", "samples")},
                    "created_at": site.created_at,
                },
                "$inc": {"revision": 1},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=self._session,
        )
        assert stored is not None, "an upsert returns what it stored"  # noqa: S101
        return site_from(stored)

    async def change(self, site: str, **changes: Any) -> Site | None:
        """Set fields of a site; None if there is no such site."""
        fields = {name: value(field) for name, field in changes.items()}
        changed = await self._sites.find_one_and_update(
            {"_id": site},
            {"$set": fields, "$inc": {"revision": 1}},
            return_document=ReturnDocument.AFTER,
            session=self._session,
        )
        return None if changed is None else site_from(changed)

    async def sample(self, site: str, measure: Measure, value: float) -> None:
        """Let a sample count in a moving average."""
        old, count = f"$links.{measure}.value", f"$links.{measure}.samples"
        mixed = {"$add": [{"$multiply": [old, 1 - WEIGHT]}, value * WEIGHT]}
        seen = {"$gt": [{"$ifNull": [count, 0]}, 0]}
        fields = {
            f"links.{measure}.value": {"$cond": [seen, mixed, value]},
            f"links.{measure}.samples": {"$add": [{"$ifNull": [count, 0]}, 1]},
        }
        await self._sites.update_one({"_id": site}, [{"$set": fields}], session=self._session)

    async def remove(self, site: str) -> bool:
        """Forget a site if nothing is charged against it; False if something is."""
        empty = {"_id": site, "charged.bytes": 0, "charged.inodes": 0}
        return (await self._sites.delete_one(empty, session=self._session)).deleted_count == 1

    async def prepared(self, site: Site) -> None:
        """Record that the site's directory is marked as its own, if the site is still the one that was prepared."""
        where = {"_id": site.id, "revision": site.revision}
        await self._sites.update_one(where, {"$set": {"prepared": True}}, session=self._session)

    async def charge(self, site: str, amount: Charge) -> bool:
        """Promise room, if there is that much."""
        where = {"_id": site, "$expr": fits(amount, "capacity")}
        result = await self._sites.update_one(where, increase(amount), session=self._session)
        return result.matched_count == 1

    async def correct(self, site: str, charged: Charge) -> None:
        """Set what is charged to what the entries sum up to."""
        await self._sites.update_one({"_id": site}, {"$set": {"charged": value(charged)}}, session=self._session)

    async def release(self, site: str, amount: Charge) -> None:
        """Take a promise back."""
        await self._sites.update_one({"_id": site}, increase(Charge() - amount), session=self._session)


def fits(amount: Charge, limit: str) -> dict[str, Any]:
    """Return the condition that `amount` more is within the field `limit`."""
    more = (("bytes", amount.bytes), ("inodes", amount.inodes))
    return {"$and": [{"$lte": [{"$add": [f"$charged.{kind}", by]}, f"${limit}.{kind}"]} for kind, by in more]}


def increase(amount: Charge) -> dict[str, Any]:
    """Return the update that charges `amount` more."""
    return {"$inc": {"charged.bytes": amount.bytes, "charged.inodes": amount.inodes}}
