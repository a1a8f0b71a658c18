"""Leases on MongoDB: one document per name in the service's own database.

    {_id: name, token, beat, holder | null, process}

`token` rises by one with every acquisition and never falls, also across a release. `beat` rises with every renewal.
An observer that sees the same (token, beat) for `ttl` seconds of its own monotonic clock may take the lease over by
compare-and-set on both: no clock is ever compared with another machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from millrace.clock import Clock, SystemClock
from millrace.documents import ledger
from millrace.documents.failures import translated
from millrace.documents.indexes import Database
from millrace.errors import Fenced
from millrace.leases.identity import HolderIdentity
from millrace.leases.ports import Lease

TTL_SECONDS = 20.0


@dataclass
class _Sighting:
    token: int
    beat: int
    since: float


class LeaseStore:
    """Takes and keeps leases for one process.

    `identity` opts into taking over at once from a holder whose process is provably dead on this machine. Use it only
    where the holder's death means that nothing acts for it any more: a process's children do not die with it.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        ttl: float = TTL_SECONDS,
        identity: HolderIdentity | None = None,
    ) -> None:
        self.ttl = ttl
        self._collection = database[ledger.LEASES]
        self._clock: Clock = clock or SystemClock()
        self._identity = identity
        self._seen: dict[str, _Sighting] = {}

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Return a lease with a higher token than any before, or None while somebody else holds it."""
        with translated():
            free = {"_id": name, "holder": None}
            taken = await self._take(free, name, holder)
            return taken or await self._create(name, holder) or await self._take_over(name, holder)

    async def renew(self, lease: Lease) -> None:
        """Beat.

        Raises:
            Fenced: the lease was released or taken over.
        """
        with translated():
            result = await self._collection.update_one(_held(lease), {"$inc": {"beat": 1}})
        if result.matched_count == 0:
            raise _fenced(lease)

    async def release(self, lease: Lease) -> None:
        """Give the lease up, if it is still held under this token."""
        with translated():
            await self._collection.update_one(_held(lease), {"$set": {"holder": None}, "$inc": {"beat": 1}})

    async def check(self, lease: Lease) -> None:
        """Raise `Fenced` unless the lease is held under this token at this moment."""
        with translated():
            found = await self._collection.find_one(_held(lease), {"_id": 1})
        if found is None:
            raise _fenced(lease)

    async def guard(self, lease: Lease, session: AsyncClientSession) -> None:
        """Make the transaction of `session` fail if the lease is lost before it commits.

        It writes to the lease's document, so that a takeover and this transaction cannot both succeed.

        Raises:
            Fenced: the lease is lost already.
        """
        result = await self._collection.update_one(_held(lease), {"$inc": {"beat": 1}}, session=session)
        if result.matched_count == 0:
            raise _fenced(lease)

    async def _create(self, name: str, holder: str) -> Lease | None:
        if await self._collection.find_one({"_id": name}, {"_id": 1}) is not None:
            return None
        row = {"_id": name, "token": 1, "beat": 0, "holder": holder, "process": self._described()}
        try:
            await self._collection.insert_one(row)
        except DuplicateKeyError:
            return None
        return Lease(name, holder, 1)

    async def _take_over(self, name: str, holder: str) -> Lease | None:
        current = await self._collection.find_one({"_id": name})
        if current is None or not self._silent(name, current):
            return None
        unchanged = {"_id": name, "token": current["token"], "beat": current["beat"]}
        return await self._take(unchanged, name, holder)

    def _silent(self, name: str, current: dict[str, Any]) -> bool:
        if self._identity is not None and self._identity.is_dead(current.get("process") or {}):
            return True
        now = self._clock.monotonic()
        seen = self._seen.get(name)
        if seen is None or (seen.token, seen.beat) != (current["token"], current["beat"]):
            self._seen[name] = _Sighting(current["token"], current["beat"], now)
            return False
        return now - seen.since >= self.ttl

    async def _take(self, condition: dict[str, Any], name: str, holder: str) -> Lease | None:
        change = {"$set": {"holder": holder, "process": self._described()}, "$inc": {"token": 1, "beat": 1}}
        taken = await self._collection.find_one_and_update(condition, change, return_document=ReturnDocument.AFTER)
        if taken is None:
            return None
        self._seen.pop(name, None)
        return Lease(name, holder, int(taken["token"]))

    def _described(self) -> dict[str, str]:
        return self._identity.describe() if self._identity is not None else {}


def _held(lease: Lease) -> dict[str, Any]:
    return {"_id": lease.name, "token": lease.token, "holder": lease.holder}


def _fenced(lease: Lease) -> Fenced:
    return Fenced(f"lease {lease.name} is lost: token {lease.token} is no longer in force", lease=lease.name)
