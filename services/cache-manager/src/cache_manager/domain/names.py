"""Ids of entries and leases: made of names that hold no dot, so that dots separate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cache_manager.errors import EntryNotFound, LeaseLost

_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
_ENTRY = re.compile(rf"({_NAME})\.({_NAME})\.([0-9a-f]{{64}})")
_LEASE = re.compile(
    rf"({_NAME}\.{_NAME}\.[0-9a-f]{{64}})\.([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})\.([0-9]{{1,18}})"
)


@dataclass(frozen=True)
class EntryKey:
    """What makes an entry one and the same."""

    site: str
    project: str
    commit: str

    @property
    def id(self) -> str:
        """Return `<site>.<project>.<commit>`."""
        return f"{self.site}.{self.project}.{self.commit}"


@dataclass(frozen=True)
class LeaseName:
    """A lease by entry and run; `token` tells a run's later lease from its earlier ones."""

    entry: str
    run: str
    token: int

    @property
    def id(self) -> str:
        """Return `<entry>.<run>.<token>`."""
        return f"{self.entry}.{self.run}.{self.token}"


def parse_entry(text: str) -> EntryKey:
    """Return the parts of an entry id.

    Raises:
        EntryNotFound: no entry can have this id.
    """
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise EntryNotFound("no such cache entry")
    return EntryKey(*match.groups())


def parse_lease(text: str) -> LeaseName:
    """Return the parts of a lease id.

    Raises:
        LeaseLost: no lease can have this id.
    """
    match = _LEASE.fullmatch(text)
    if match is None:
        raise LeaseLost("no such lease")
    return LeaseName(match[1], match[2], int(match[3]))
