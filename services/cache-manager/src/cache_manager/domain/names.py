"""Ids of entries and leases: made of names that hold no dot, so that dots separate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cache_manager.errors import EntryNotFound, LeaseLost

_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
_COPY = r"[0-9a-f]{64}(?:-[a-z0-9][a-z0-9-]{0,62})?"
_ENTRY = re.compile(rf"({_NAME})\.({_NAME})\.({_COPY})")
_LEASE = re.compile(
    rf"({_NAME}\.{_NAME}\.{_COPY})\.([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})\.([0-9]{{1,18}})"
)


@dataclass(frozen=True)
class EntryKey:
    """What makes an entry one and the same. `variant` is empty for the whole version as a tree."""

    site: str
    project: str
    commit: str
    variant: str = ""

    @property
    def copy(self) -> str:
        """Return `<commit>` or `<commit>-<variant>`: the copy's name among those of a project at a site."""
        return f"{self.commit}-{self.variant}" if self.variant else self.commit

    @property
    def id(self) -> str:
        """Return `<site>.<project>.<copy>`."""
        return f"{self.site}.{self.project}.{self.copy}"


def key_of(site: str, project: str, copy: str) -> EntryKey:
    """Return the key of a copy by its name."""
    commit, _, variant = copy.partition("-")
    return EntryKey(site, project, commit, variant)


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
    return key_of(*match.groups())


def parse_lease(text: str) -> LeaseName:
    """Return the parts of a lease id.

    Raises:
        LeaseLost: no lease can have this id.
    """
    match = _LEASE.fullmatch(text)
    if match is None:
        raise LeaseLost("no such lease")
    return LeaseName(match[1], match[2], int(match[3]))
