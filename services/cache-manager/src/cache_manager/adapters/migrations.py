"""How the cache manager's database came to its present shape, step by step."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

from cache_manager.adapters.mongo_entries import MongoEntries
from cache_manager.adapters.mongo_quotas import MongoQuotas
from cache_manager.adapters.names import ENTRIES, QUOTAS, SITES
from millrace.documents import ensure_indexes
from millrace.documents.indexes import Database
from millrace.documents.migrations import Migration


async def _indexes(database: Database) -> None:
    await ensure_indexes(
        database[ENTRIES],
        [
            IndexModel([("site", ASCENDING), ("state", ASCENDING)], name="site_state"),
            IndexModel([("project", ASCENDING), ("_id", ASCENDING)], name="project_id"),
            IndexModel([("state", ASCENDING), ("created_at", ASCENDING)], name="state_created"),
        ],
    )


async def _pins_and_quotas(database: Database) -> None:
    """Expand: entries get pins and heat, sites may drain, and what projects hold already is counted."""
    fields = {"pins": {}, "heat": 0.0, "fill_seconds": 0.0}
    for name, value in fields.items():
        await database[ENTRIES].update_many({name: {"$exists": False}}, {"$set": {name: value}})
    for name, missing in (("draining", False), ("age_out", None)):
        await database[SITES].update_many({name: {"$exists": False}}, {"$set": {name: missing}})
    held = await MongoEntries(database[ENTRIES]).charged()
    await MongoQuotas(database[QUOTAS]).correct(held)


MIGRATIONS = [
    Migration(1, "indexes of entries", _indexes),
    Migration(2, "pins, heat, draining sites and quotas", _pins_and_quotas),
]
