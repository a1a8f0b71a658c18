"""Leases in memory, with the rules of the real store."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.clock import Clock
from millrace.errors import Fenced
from millrace.leases.ports import Lease


@dataclass
class _Entry:
    token: int
    beat: int
    holder: str | None


class LeaseTable:
    """What all observers share."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}


class InMemoryLeaseStore:
    """One observer of a shared table: it takes over only what *it* saw silent for `ttl` seconds of its own clock."""

    def __init__(self, table: LeaseTable, *, clock: Clock, ttl: float = 20.0) -> None:
        self.ttl = ttl
        self._entries = table.entries
        self._clock = clock
        self._seen: dict[str, tuple[int, int, float]] = {}

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Return a lease with a higher token, or None while somebody else holds it."""
        entry = self._entries.setdefault(name, _Entry(0, 0, None))
        if entry.holder is not None and not self._silent(name, entry):
            return None
        entry.holder, entry.token, entry.beat = holder, entry.token + 1, entry.beat + 1
        self._seen.pop(name, None)
        return Lease(name, holder, entry.token)

    async def renew(self, lease: Lease) -> None:
        """Beat, or raise `Fenced`."""
        self._held(lease).beat += 1

    async def release(self, lease: Lease) -> None:
        """Give the lease up if it is still held under this token."""
        entry = self._entries.get(lease.name)
        if entry is not None and (entry.token, entry.holder) == (lease.token, lease.holder):
            entry.holder, entry.beat = None, entry.beat + 1

    async def check(self, lease: Lease) -> None:
        """Raise `Fenced` unless the lease is held under this token."""
        self._held(lease)

    def _held(self, lease: Lease) -> _Entry:
        entry = self._entries.get(lease.name)
        if entry is None or (entry.token, entry.holder) != (lease.token, lease.holder):
            raise Fenced(f"lease {lease.name} is lost: token {lease.token} is no longer in force")
        return entry

    def _silent(self, name: str, entry: _Entry) -> bool:
        now = self._clock.monotonic()
        seen = self._seen.get(name)
        if seen is None or seen[:2] != (entry.token, entry.beat):
            self._seen[name] = (entry.token, entry.beat, now)
            return False
        return now - seen[2] >= self.ttl
