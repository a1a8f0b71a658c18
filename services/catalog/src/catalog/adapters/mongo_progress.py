"""Metric points and log lines on MongoDB: one document each, its `_id` what makes it unique."""

from __future__ import annotations

from typing import Any

from pymongo import DESCENDING, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from catalog.adapters.mongo import Collection
from catalog.domain.metrics import LogLine, Point
from millrace.documents import translated

MAX_POINTS = 200_000


class MongoPoints:
    """Points under `_id: {r: run, k: key, s: step}`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None) -> None:
        self._collection = collection
        self._session = session

    async def record(self, project: str, run: str, points: list[Point]) -> int:
        """Insert new points; replace those that a lower fence wrote."""
        wanted = {(point.key, point.step): point for point in points}
        ids = [{"r": run, "k": key, "s": step} for key, step in wanted]
        cursor = self._collection.find({"_id": {"$in": ids}}, {"fence": 1}, session=self._session)
        known = {(row["_id"]["k"], row["_id"]["s"]): row["fence"] async for row in cursor}
        fresh = [_point_row(project, run, point) for name, point in wanted.items() if name not in known]
        newer = [
            _point_row(project, run, point)
            for name, point in wanted.items()
            if name in known and known[name] < point.fence
        ]
        if fresh:
            await self._collection.insert_many(fresh, session=self._session)
        if newer:
            changes = [ReplaceOne({"_id": row["_id"]}, row) for row in newer]
            await self._collection.bulk_write(changes, session=self._session)
        return len(fresh) + len(newer)

    async def of(self, run: str, key: str, *, after_step: int = -1) -> list[Point]:
        """Return the points of one key by step."""
        where = {"run": run, "key": key, "step": {"$gt": after_step}}
        with translated():
            cursor = self._collection.find(where, session=self._session).sort("step").limit(MAX_POINTS)
            return [
                Point(key=row["key"], step=row["step"], value=row["value"], at=row["at"], fence=row["fence"])
                async for row in cursor
            ]

    async def keys(self, run: str) -> list[str]:
        """Return the keys of a run."""
        with translated():
            return sorted(await self._collection.distinct("key", {"run": run}, session=self._session))


def _point_row(project: str, run: str, point: Point) -> dict[str, Any]:
    return {
        "_id": {"r": run, "k": point.key, "s": point.step},
        "project": project,
        "run": run,
        "key": point.key,
        "step": point.step,
        "value": point.value,
        "at": point.at,
        "fence": point.fence,
        "revision": 0,
        "schema_version": 1,
    }


class MongoLogLines:
    """Lines under `_id: {r: run, f: fence, o: offset}`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None) -> None:
        self._collection = collection
        self._session = session

    async def append(self, project: str, run: str, lines: list[LogLine]) -> int:
        """Insert the lines that are not there yet."""
        wanted = {(line.fence, line.offset): line for line in lines}
        ids = [{"r": run, "f": fence, "o": offset} for fence, offset in wanted]
        cursor = self._collection.find({"_id": {"$in": ids}}, {"_id": 1}, session=self._session)
        known = {(row["_id"]["f"], row["_id"]["o"]) async for row in cursor}
        fresh = [_line_row(project, run, line) for name, line in wanted.items() if name not in known]
        if fresh:
            await self._collection.insert_many(fresh, session=self._session)
        return len(fresh)

    async def read(self, run: str, *, after: tuple[int, int], limit: int) -> list[LogLine]:
        """Return lines beyond (fence, offset)."""
        fence, offset = after
        beyond = [{"fence": {"$gt": fence}}, {"fence": fence, "offset": {"$gt": offset}}]
        with translated():
            cursor = self._collection.find({"run": run, "$or": beyond}, session=self._session)
            return [_line(row) async for row in cursor.sort([("fence", 1), ("offset", 1)]).limit(limit)]

    async def tail(self, run: str, limit: int) -> list[LogLine]:
        """Return the last lines, oldest first."""
        with translated():
            cursor = self._collection.find({"run": run}, session=self._session)
            rows = cursor.sort([("fence", DESCENDING), ("offset", DESCENDING)]).limit(limit)
            return [_line(row) async for row in rows][::-1]


def _line_row(project: str, run: str, line: LogLine) -> dict[str, Any]:
    return {
        "_id": {"r": run, "f": line.fence, "o": line.offset},
        "project": project,
        "run": run,
        "fence": line.fence,
        "offset": line.offset,
        "at": line.at,
        "stream": line.stream,
        "line": line.line,
        "revision": 0,
        "schema_version": 1,
    }


def _line(row: dict[str, Any]) -> LogLine:
    return LogLine(fence=row["fence"], offset=row["offset"], at=row["at"], stream=row["stream"], line=row["line"])
