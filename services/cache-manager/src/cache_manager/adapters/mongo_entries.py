"""Entries on MongoDB. Leases live inside the entry's document: grants filter on its state, never on its revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from cache_manager.adapters.entry_codec import charge_from, entry_document, entry_from, value
from cache_manager.adapters.lease_grant import grant_stages
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Asked, Cause, Desired, Entry, EvictReason, Grant, Pin
from cache_manager.domain.names import LeaseName
from cache_manager.domain.states import PUBLISHED, SHOWN, Move, State, after
from millrace.documents.indexes import Collection
from millrace.errors import Fenced

NO_PINS: dict[str, Any] = {"$in": [{}, None]}
"""No pins; documents of the first schema have no such field."""


class MongoEntries:
    """`Entries` on the collection `entries`."""

    def __init__(self, collection: Collection, session: AsyncClientSession | None = None) -> None:
        self._entries = collection
        self._session = session

    async def get(self, entry_id: str) -> Entry | None:
        """Return an entry, or None."""
        found = await self._entries.find_one({"_id": entry_id}, session=self._session)
        return None if found is None else entry_from(found)

    async def find(self, where: Mapping[str, Any], *, after: str = "", limit: int = 1_000) -> list[Entry]:
        """Return entries whose fields equal `where` (a tuple: any of it) by id, beyond `after`."""
        query = _query(where)
        if after:
            query["_id"] = {"$gt": after}
        found = self._entries.find(query, session=self._session).sort("_id", 1).limit(limit)
        return [entry_from(document) async for document in found]

    async def restless(self) -> list[Entry]:
        """Return the entries that may need work, oldest first."""
        resting = [State.READY.value, State.ABSENT.value]
        query = {
            "$or": [
                {"state": {"$nin": resting}},
                {"state": State.READY.value, "desired": "absent"},
                {"state": State.ABSENT.value, "desired": "present"},
            ]
        }
        found = self._entries.find(query, session=self._session).sort("created_at", 1).limit(1_000)
        return [entry_from(document) async for document in found]

    async def add(self, entry: Entry) -> bool:
        """Store a new entry; False if its id is taken."""
        try:
            await self._entries.insert_one(entry_document(entry), session=self._session)
        except DuplicateKeyError:
            return False
        return True

    async def wish(self, entry_id: str, desired: Desired, asked: Asked, cause: Cause) -> bool:
        """Record what should be, unless a newer wish was recorded before; a FAILED entry is queued again."""
        older = [
            {"asked.sequence": {"$lt": asked.sequence}},
            {"asked.sequence": asked.sequence, "asked.id": {"$lte": asked.id}},
        ]
        change: dict[str, Any] = {"desired": desired, "asked": value(asked), "cause": value(cause)}
        if desired == "absent":
            change["evict_reason"] = "cleared"
        result = await self._entries.update_one(
            {"_id": entry_id, "$or": older}, {"$set": change}, session=self._session
        )
        if result.matched_count and desired == "present":
            await self._entries.update_one(
                {"_id": entry_id, "state": State.FAILED.value},
                {
                    "$set": {"state": State.QUEUED.value, "attempts": 0, "retry_at": None, "reason": "asked for again"},
                    "$inc": {"revision": 1},
                },
                session=self._session,
            )
        return result.matched_count == 1

    async def adopt_from(self, entry_id: str, path: str) -> bool:
        """Let the next fill take files from a folder; False if the copy is there already."""
        where = {"_id": entry_id, "state": {"$nin": [State.READY.value, State.REPAIRING.value]}}
        result = await self._entries.update_one(where, {"$set": {"adopt_from": path}}, session=self._session)
        return result.matched_count == 1

    async def claim(self, entry_id: str, token: int) -> Entry | None:
        """Record a worker's token, unless a higher one was seen; return the entry as it is then."""
        return await self._change({"_id": entry_id, "token": {"$lte": token}}, {"$set": {"token": token}})

    async def move(self, entry: Entry, move: Move, **changes: Any) -> Entry:
        """Change the state and further fields, if state and token are still those of `entry`."""
        return await self._step(entry, state=after(entry.state, move), **changes)

    async def note(self, entry: Entry, **changes: Any) -> Entry:
        """Change fields in the same state."""
        return await self._step(entry, **changes)

    async def _step(self, entry: Entry, **changes: Any) -> Entry:
        where = {"_id": entry.id, "state": entry.state.value, "token": entry.token}
        fields = {name: value(field) for name, field in changes.items()}
        changed = await self._change(where, {"$set": fields, "$inc": {"revision": 1}})
        if changed is None:
            raise Fenced(f"cache entry {entry.id} went on without this worker", entry=entry.id)
        return changed

    async def report(self, entry: Entry, *, fetched_bytes: int, progress: float) -> Entry | None:
        """Record progress; return the entry as it is then, None if the worker was fenced."""
        where = {"_id": entry.id, "token": entry.token}
        numbers = {"fetched_bytes": fetched_bytes, "progress": progress}
        return await self._change(where, {"$set": numbers})

    async def shut(self, entry: Entry) -> Entry | None:
        """Let no run begin to read what is being filled, if none has, and state and token are those of `entry`."""
        where: dict[str, Any] = {"_id": entry.id, "state": entry.state.value, "token": entry.token, "leases": {}}
        return await self._change(where, {"$set": {"readable": False}, "$inc": {"revision": 1}})

    async def evict(self, entry: Entry, *, reason: EvictReason, only_if_wished: Desired) -> Entry | None:
        """Mark for eviction, if it is published, held by nobody, unused since it was read, and wished as said."""
        where = {
            "_id": entry.id,
            "state": {"$in": [state.value for state in PUBLISHED]},
            "leases": {},
            "pins": NO_PINS,
            "uses": entry.uses,
            "desired": only_if_wished,
        }
        fields = {
            "state": State.EVICTING.value,
            "desired": "absent",
            "evict_reason": reason,
            "reason": f"being evicted ({reason})",
        }
        return await self._change(where, {"$set": fields, "$inc": {"revision": 1}})

    async def grant(self, entry_id: str, run: str, early: bool = False) -> tuple[Entry, Grant] | None:
        """Give a run its lease, if the entry is ready, or may be read `early`, and wished present; else None."""
        granted = await self.grant_many(entry_id, [run], early)
        return None if granted is None else (granted[0], granted[1][run])

    async def grant_many(
        self,
        entry_id: str,
        runs: Sequence[str],
        early: bool = False,
    ) -> tuple[Entry, Mapping[str, Grant]] | None:
        """Give several different runs their leases in one update, in their order."""
        where: dict[str, Any] = {"_id": entry_id, "state": State.READY.value, "desired": "present"}
        if early:
            shown = {"state": {"$in": [state.value for state in SHOWN]}, "readable": True}
            where["$or"] = [{"state": where.pop("state")}, shown]
        granted = await self._change(where, grant_stages(runs))
        return None if granted is None else (granted, granted.leases)

    async def want(self, lease: LeaseName, reader: int, names: Sequence[str]) -> Entry | None:
        """Record what one of a run's readers needs next, and return the entry; None if the lease is gone."""
        where = {"_id": lease.entry, f"leases.{lease.run}.token": lease.token}
        return await self._change(where, {"$set": {f"leases.{lease.run}.wanted.{reader}": list(names)}})

    async def renew(self, entry_id: str, run: str, token: int) -> bool:
        """Raise the beat of a lease; False if it is gone."""
        where = {"_id": entry_id, f"leases.{run}.token": token}
        result = await self._entries.update_one(where, {"$inc": {f"leases.{run}.beat": 1}}, session=self._session)
        return result.matched_count == 1

    async def end(self, entry_id: str, run: str, grant: Grant) -> bool:
        """Remove a lease, if it has this token (and beat, unless that is -1); the idle time starts at 0."""
        where: dict[str, Any] = {"_id": entry_id, f"leases.{run}.token": grant.token}
        if grant.beat >= 0:
            where[f"leases.{run}.beat"] = grant.beat
        change = {"$unset": {f"leases.{run}": ""}, "$set": {"idle_seconds": 0.0}}
        result = await self._entries.update_one(where, change, session=self._session)
        return result.matched_count == 1

    async def scrubbed(self, entry: Entry, *, position: int, ended: datetime | None) -> None:
        """Record how far the scrub of an entry is, and that it is through, if it is ready as it was."""
        where = {"_id": entry.id, "state": State.READY.value, "token": entry.token}
        fields: dict[str, Any] = {"scrub_position": position}
        if ended is not None:
            fields |= {"scrubbed_at": ended, "scrub_wanted": False}
        await self._entries.update_one(where, {"$set": fields}, session=self._session)

    async def want_scrub(self, where: Mapping[str, Any]) -> int:
        """Ask for a scrub of the ready entries whose fields equal `where`; return how many there are."""
        query = {**_query(where), "state": State.READY.value}
        change = {"$set": {"scrub_wanted": True, "scrub_position": 0}}
        return (await self._entries.update_many(query, change, session=self._session)).matched_count

    async def age(self, seconds: float, decay: float) -> None:
        """Multiply the heat of what is ready by `decay`, and add to the idle time of what nobody leases."""
        ready = {"state": State.READY.value}
        await self._entries.update_many(ready, {"$mul": {"heat": decay}}, session=self._session)
        unleased = {**ready, "leases": {}}
        await self._entries.update_many(unleased, {"$inc": {"idle_seconds": seconds}}, session=self._session)

    async def pin(self, entry_id: str, name: str, pin: Pin) -> bool:
        """Set a pin on what is wished present, and not on its way out; else False."""
        where = {"_id": entry_id, "desired": "present", "state": {"$ne": State.EVICTING.value}}
        change = {"$set": {f"pins.{name}": {"by": pin.by, "reason": pin.reason, "since": pin.since}}}
        result = await self._entries.update_one(where, change, session=self._session)
        return result.matched_count == 1

    async def unpin(self, entry_id: str, name: str) -> bool:
        """Remove a pin; False if there is none of this name. The idle time starts at 0."""
        where = {"_id": entry_id, f"pins.{name}": {"$exists": True}}
        change = {"$unset": {f"pins.{name}": ""}, "$set": {"idle_seconds": 0.0}}
        result = await self._entries.update_one(where, change, session=self._session)
        return result.matched_count == 1

    async def forget(self, site: str) -> int:
        """Remove the entries of a site that have nothing there; return how many others there are."""
        gone = {"site": site, "charge": value(Charge()), "leases": {}}
        await self._entries.delete_many(gone, session=self._session)
        return await self._entries.count_documents({"site": site}, session=self._session)

    async def charged(self) -> dict[tuple[str, str], Charge]:
        """Return the sum of the entries' charges by site and project."""
        key = {"site": "$site", "project": "$project"}
        sums = {"bytes": {"$sum": "$charge.bytes"}, "inodes": {"$sum": "$charge.inodes"}}
        cursor = await self._entries.aggregate([{"$group": {"_id": key, **sums}}], session=self._session)
        return {(row["_id"]["site"], row["_id"]["project"]): charge_from(row) async for row in cursor}

    async def _change(self, where: Mapping[str, Any], change: Any) -> Entry | None:
        changed = await self._entries.find_one_and_update(
            where, change, return_document=ReturnDocument.AFTER, session=self._session
        )
        return None if changed is None else entry_from(changed)


def _query(where: Mapping[str, Any]) -> dict[str, Any]:
    query: dict[str, Any] = {}
    for name, wanted in where.items():
        if name == "leased":
            query["leases"] = {"$ne": {}} if wanted else {}
        elif name == "pinned":
            query["pins"] = {"$nin": [{}, None]} if wanted else NO_PINS
        elif isinstance(wanted, tuple):
            query[name] = {"$in": [value(item) for item in wanted]}
        else:
            query[name] = value(wanted)
    return query
