"""Repositories on MongoDB: values are always compared as values, so that none can become an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from catalog.adapters.codec import Codec, path
from catalog.domain.entity import Entity
from millrace.documents import translate
from millrace.errors import Conflict

E = TypeVar("E", bound=Entity)
Collection = AsyncCollection[dict[str, Any]]
END = "\U0010ffff"


class MongoRepository(Generic[E]):
    """Entities of one kind in one collection, inside a transaction if `session` is given."""

    def __init__(self, collection: Collection, codec: Codec[E], session: AsyncClientSession | None) -> None:
        self._collection = collection
        self._codec = codec
        self._session = session

    def _failed(self, error: PyMongoError) -> Exception:
        """Return what to raise: inside a transaction the driver's own error, whose labels the transactor reads."""
        return error if self._session is not None else translate(error)

    async def get(self, entity_id: str) -> E | None:
        """Return the entity, or None."""
        try:
            document = await self._collection.find_one({"_id": {"$eq": entity_id}}, session=self._session)
        except PyMongoError as error:
            raise self._failed(error) from error
        return self._codec.decode(document) if document else None

    async def add(self, entity: E) -> None:
        """Store a new entity."""
        try:
            await self._collection.insert_one(self._codec.encode(entity), session=self._session)
        except PyMongoError as error:
            raise self._failed(error) from error

    async def save(self, entity: E) -> E:
        """Replace the entity if its revision is still the stored one."""
        moved = replace(entity, revision=entity.revision + 1)
        document = self._codec.encode(moved)
        mine: Any = entity.revision or {"$in": [0, None]}
        try:
            done = await self._collection.replace_one(
                {"_id": {"$eq": entity.id}, "revision": mine}, document, session=self._session
            )
        except PyMongoError as error:
            raise self._failed(error) from error
        if done.matched_count != 1:
            raise Conflict(f"{entity.id} changed meanwhile", hint="read it again")
        return moved

    async def remove(self, entity_id: str) -> None:
        """Remove the entity, if it is there."""
        try:
            await self._collection.delete_one({"_id": {"$eq": entity_id}}, session=self._session)
        except PyMongoError as error:
            raise self._failed(error) from error

    async def find(
        self,
        where: Mapping[str, Any],
        *,
        prefix: tuple[str, str] | None = None,
        order: str = "id",
        descending: bool = False,
        after: Any = None,
        limit: int = 100,
    ) -> list[E]:
        """Return entities whose fields equal `where`, in `order`, beyond `after`."""
        clauses = _clauses(where)
        if prefix is not None:
            clauses.append({path(prefix[0]): {"$gte": prefix[1], "$lt": prefix[1] + END}})
        if after is not None:
            clauses.append({path(order): {"$lt" if descending else "$gt": after}})
        way = DESCENDING if descending else ASCENDING
        try:
            cursor = self._collection.find({"$and": clauses} if clauses else {}, session=self._session)
            return [self._codec.decode(document) async for document in cursor.sort(path(order), way).limit(limit)]
        except PyMongoError as error:
            raise self._failed(error) from error

    async def count(self, where: Mapping[str, Any]) -> int:
        """Return how many entities match."""
        clauses = _clauses(where)
        try:
            return await self._collection.count_documents({"$and": clauses} if clauses else {}, session=self._session)
        except PyMongoError as error:
            raise self._failed(error) from error


def _clauses(where: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {path(name): {"$in": list(value)} if isinstance(value, tuple) and value else {"$eq": _value(value)}}
        for name, value in where.items()
    ]


def _value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class Counters:
    """Counters by name; a transaction that raised one makes others that want to wait for it."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None) -> None:
        self._collection = collection
        self._session = session

    async def advance(self, name: str, by: int) -> int:
        """Raise the counter and return its old value."""
        after = await self._collection.find_one_and_update(
            {"_id": name},
            {"$inc": {"value": by, "revision": 1}, "$setOnInsert": {"schema_version": 1, "project": "-"}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=self._session,
        )
        return (int(after["value"]) if after else by) - by

    async def value(self, name: str) -> int:
        """Return the counter's value."""
        document = await self._collection.find_one({"_id": name}, session=self._session)
        return int(document["value"]) if document else 0
