"""Indexes and migrations of the catalog's database."""

from __future__ import annotations

from pymongo import ASCENDING, DESCENDING, IndexModel

from catalog.adapters.codec import SCHEMA_VERSION
from millrace.clock import SystemClock
from millrace.documents import ensure_indexes, translated
from millrace.documents.indexes import Database
from millrace.documents.migrations import Migration

ANSWER_SECONDS = 7 * 86_400
"""How long an answer is repeated under its idempotency key."""


def _index(*names: str, **options: object) -> IndexModel:
    return IndexModel([(name, ASCENDING) for name in names], **options)


INDEXES: dict[str, list[IndexModel]] = {
    "datasets": [_index("project", "_id")],
    "versions": [
        _index("project", "dataset", "version", unique=True),
        _index("project", "dataset", "commit", unique=True),
    ],
    "policies": [_index("project", "on")],
    "executions": [
        _index("project", "targets"),
        _index("project", "policy", "_id"),
        _index("project", "requests.state"),
    ],
    "runs": [
        IndexModel([("project", ASCENDING), ("_id", DESCENDING)]),
        _index("project", "state", "_id"),
        _index("project", "correlation"),
    ],
    "models": [_index("project", "_id")],
    "model_versions": [
        _index("project", "model", "version", unique=True),
        _index("project", "model", "run", unique=True),
    ],
    "deployments": [_index("project", "_id")],
    "operations": [_index("project", "event"), _index("project", "state"), _index("project", "number")],
    "tokens": [_index("project", "_id"), _index("parent", sparse=True)],
    "event_log": [
        _index("position"),
        _index("project", "position"),
        _index("project", "correlation", "position"),
        _index("project", "subject", "position"),
        _index("policies", "_id"),
        _index("delivered", "_id"),
    ],
    "audit": [_index("resource"), _index("link.position")],
    "dead_letters": [_index("project", "state", "_id")],
    "edges": [_index("project", "source"), _index("project", "target")],
    "answers": [_index("created_at", expireAfterSeconds=ANSWER_SECONDS)],
    "collections": [_index("project")],
    "condemned": [_index("project", "state", "_id")],
    "encryptions": [_index("project")],
    "metrics": [_index("run", "key", "step", unique=True)],
    "run_logs": [_index("run", "fence", "offset", unique=True)],
}


async def create_schema(database: Database) -> None:
    """Create what is missing. Idempotent, so that every start may do it."""
    for name, indexes in INDEXES.items():
        await ensure_indexes(database[name], indexes)
    with translated():
        await database["counters"].update_one(
            {"_id": "schema"}, {"$setOnInsert": {"value": 0, "project": "-", "revision": 0}}, upsert=True
        )


async def settle_projects(database: Database) -> None:
    """Create the schema, and write down of each project with datasets that they lie in clear."""
    await create_schema(database)
    in_clear = {"key_id": "", "wrapped": "", "master": "", "settled_by": "installation"}
    document = {**in_clear, "settled_at": SystemClock().now(), "revision": 0, "schema_version": SCHEMA_VERSION}
    with translated():
        for project in await database["datasets"].distinct("project"):
            known = {"$setOnInsert": {**document, "project": project}}
            await database["encryptions"].update_one({"_id": project}, known, upsert=True)


MIGRATIONS = (
    Migration(1, "collections and indexes", create_schema),
    Migration(2, "garbage collections and what they condemn", create_schema),
    Migration(3, "projects with datasets are not encrypted", settle_projects),
)
"""Numbered, run once each, at start, under a lease."""
