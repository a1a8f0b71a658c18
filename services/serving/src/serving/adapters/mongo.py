"""Serving's documents in MongoDB.

    endpoints {_id: "<project>/<deployment>", project, revision, schema_version, desired, cause, state, …}
    routes    {_id: "<project>/<deployment>", project, revision, schema_version, deployment, epoch, arms, sampling}

An endpoint is changed by compare-and-set on `revision`, a route by compare-and-set on `epoch`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from millrace.documents import MongoUnitOfWork, translated
from millrace.documents.indexes import Collection, Database
from millrace.errors import Conflict
from millrace.leases import Lease, LeaseStore
from serving.domain.endpoint import Endpoint, Spec
from serving.domain.routes import Arm, Route

ENDPOINTS, ROUTES = "endpoints", "routes"
_VERSION = 1


class MongoEndpoints:
    """Endpoints inside one transaction."""

    def __init__(self, collection: Collection, session: AsyncClientSession) -> None:
        self._collection = collection
        self._session = session

    async def get(self, project: str, deployment: str) -> Endpoint | None:
        """Return an endpoint, if it exists."""
        found = await self._collection.find_one({"_id": _key(project, deployment)}, session=self._session)
        return None if found is None else endpoint_from(found)

    async def save(self, endpoint: Endpoint) -> Endpoint:
        """Store an endpoint by compare-and-set on its revision."""
        saved = replace(endpoint, revision=endpoint.revision + 1)
        row = endpoint_row(saved)
        if not await _swap(self._collection, row, {"revision": endpoint.revision}, endpoint.revision, self._session):
            raise Conflict(f"endpoint {row['_id']} changed meanwhile")
        return saved


class MongoRoutes:
    """Routes inside one transaction."""

    def __init__(self, collection: Collection, session: AsyncClientSession) -> None:
        self._collection = collection
        self._session = session

    async def get(self, project: str, deployment: str) -> Route | None:
        """Return a route, if it exists."""
        found = await self._collection.find_one({"_id": _key(project, deployment)}, session=self._session)
        return None if found is None else route_from(found)

    async def save(self, route: Route) -> None:
        """Store a route by compare-and-set on its epoch."""
        row = route_row(route)
        if not await _swap(self._collection, row, {"epoch": route.epoch - 1}, route.epoch - 1, self._session):
            raise Conflict(f"route {row['_id']} changed meanwhile")


class MongoServing(MongoUnitOfWork):
    """One transaction of serving."""

    endpoints: MongoEndpoints
    routes: MongoRoutes

    def setup(self) -> None:
        """Build the repositories of this transaction."""
        self.endpoints = MongoEndpoints(self.database[ENDPOINTS], self.session)
        self.routes = MongoRoutes(self.database[ROUTES], self.session)

    async def guard(self, lease: Lease) -> None:
        """Let this transaction fail if `lease` is lost before it commits."""
        await LeaseStore(self.database).guard(lease, self.session)


class MongoDocuments:
    """Reads outside a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def endpoints(self) -> list[Endpoint]:
        """Return all endpoints."""
        with translated():
            return [endpoint_from(row) async for row in self._database[ENDPOINTS].find().sort("_id")]

    async def routes(self) -> list[Route]:
        """Return all routes."""
        with translated():
            return [route_from(row) async for row in self._database[ROUTES].find().sort("_id")]


async def _swap(
    collection: Collection, row: dict[str, Any], expected: dict[str, Any], before: int, session: AsyncClientSession
) -> bool:
    """Replace the row if it is as expected; create it if there was none before. Returns whether that was so."""
    if before > 0:
        result = await collection.replace_one({"_id": row["_id"], **expected}, row, session=session)
        return result.matched_count == 1
    try:
        await collection.insert_one(row, session=session)
    except DuplicateKeyError as error:
        raise Conflict(f"{row['_id']} exists already") from error
    return True


def _key(project: str, deployment: str) -> str:
    return f"{project}/{deployment}"


def endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    """Return the document of an endpoint."""
    desired = endpoint.desired
    head = {"_id": _key(desired.project, desired.deployment), "project": desired.project, "schema_version": _VERSION}
    return head | asdict(endpoint) | {"draining": [asdict(spec) for spec in endpoint.draining]}


def endpoint_from(row: dict[str, Any]) -> Endpoint:
    """Return the endpoint of a document."""
    return Endpoint(
        desired=Spec(**row["desired"]),
        cause=row["cause"],
        state=row["state"],
        reason=row["reason"],
        attempts=row["attempts"],
        serving=Spec(**row["serving"]) if row["serving"] else None,
        draining=tuple(Spec(**spec) for spec in row["draining"]),
        revision=row["revision"],
    )


def route_row(route: Route) -> dict[str, Any]:
    """Return the document of a route; `revision` equals the epoch."""
    head = {"_id": _key(route.project, route.deployment), "revision": route.epoch, "schema_version": _VERSION}
    return head | asdict(route) | {"arms": [asdict(arm) for arm in route.arms]}


def route_from(row: dict[str, Any]) -> Route:
    """Return the route of a document."""
    arms = tuple(Arm(**arm) for arm in row["arms"])
    return Route(row["project"], row["deployment"], row["epoch"], arms, row.get("sampling", 1.0))
