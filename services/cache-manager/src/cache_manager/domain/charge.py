"""Room at a site: what is promised to entries before their first byte, in bytes and inodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cache_manager.domain.links import Links
from cache_manager.domain.names import EntryKey


@dataclass(frozen=True)
class Charge:
    """An amount of room."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Charge) -> Charge:
        return Charge(self.bytes + other.bytes, self.inodes + other.inodes)

    def __sub__(self, other: Charge) -> Charge:
        return Charge(self.bytes - other.bytes, self.inodes - other.inodes)

    def __bool__(self) -> bool:
        return self.bytes != 0 or self.inodes != 0

    def fits(self, room: Charge) -> bool:
        """Return whether this much is available in `room`."""
        return self.bytes <= room.bytes and self.inodes <= room.inodes


@dataclass(frozen=True)
class Site:
    """A place near the compute: a directory with a capacity, and what is charged against it.

    `draining`: nothing new comes, what is there leaves as soon as nobody holds it. `age_out`: seconds, None for the
    service's own rule.
    """

    id: str
    path: str
    capacity: Charge
    charged: Charge = Charge()
    origin: str = "settings"
    prepared: bool = False
    draining: bool = False
    age_out: float | None = None
    links: Links = field(default_factory=Links)
    revision: int = 1
    created_at: datetime | None = None

    @property
    def free(self) -> Charge:
        """Return the room that is not promised to anybody; never negative."""
        left = self.capacity - self.charged
        return Charge(max(0, left.bytes), max(0, left.inodes))

    def tree(self, key: EntryKey) -> str:
        """Return the final path of an entry."""
        return f"{self.path}/v/{key.project}/{key.copy}"


EVERY_SITE = "*"


@dataclass(frozen=True)
class Quota:
    """What a project may hold at a site, or at all sites together (`*`), and what it holds; no limit if None."""

    site: str
    project: str
    limit: Charge | None = None
    charged: Charge = Charge()

    @property
    def id(self) -> str:
        """Return `<site>.<project>`."""
        return f"{self.site}.{self.project}"

    @property
    def free(self) -> Charge | None:
        """Return the room that is left, never negative; None if there is no limit."""
        if self.limit is None:
            return None
        left = self.limit - self.charged
        return Charge(max(0, left.bytes), max(0, left.inodes))
