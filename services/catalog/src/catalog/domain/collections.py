"""Garbage collection of a project's part of the lake: what is condemned, and how far a collection has come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from catalog.domain.entity import Entity, key

LakeKind = Literal["packs", "chunks", "manifests", "commits", "records"]
"""What a project has in the lake for its datasets."""

CollectionState = Literal["condemning", "waiting", "done", "stopped"]


@dataclass(frozen=True)
class Tally:
    """So many objects, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def plus(self, size: int) -> Tally:
        """Return the tally with one more object of `size` bytes."""
        return Tally(self.objects + 1, self.bytes + size)

    def sum(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(self.objects + other.objects, self.bytes + other.bytes)


@dataclass(frozen=True)
class StoredObject:
    """An object of a project's datasets as the lake lists it; `size` in bytes, `modified` by the lake's own clock."""

    kind: LakeKind
    id: str
    size: int
    modified: datetime | None


@dataclass(frozen=True)
class Garbage:
    """What a collection would take, beside what it leaves: objects that are needed, and such as are too young."""

    objects: list[StoredObject]
    kept: Tally
    young: Tally

    def by_kind(self) -> dict[str, Tally]:
        """Return how many objects of each kind, and their bytes."""
        tallies: dict[str, Tally] = {}
        for item in self.objects:
            tallies[item.kind] = tallies.get(item.kind, Tally()).plus(item.size)
        return tallies


@dataclass(frozen=True, kw_only=True)
class Collection(Entity):
    """The newest collection of a project; its id is the project's.

    What was removed, and what was written, before `cutoff` may go. `swept` is what went so far.
    """

    asked_by: str
    asked_at: datetime
    cutoff: datetime
    state: CollectionState = "condemning"
    reason: str = ""
    condemned: Tally = Tally()
    swept: Tally = Tally()
    ended_at: datetime | None = None

    @property
    def under_way(self) -> bool:
        """Return whether there is something left to do."""
        return self.state not in {"done", "stopped"}

    def reaches(self, removed_at: datetime) -> bool:
        """Return whether bytes of what was removed then may be gone, or about to go."""
        return removed_at <= self.cutoff and (self.under_way or self.swept.objects > 0)

    def end(self, state: Literal["done", "stopped"], *, at: datetime) -> Collection:
        """Return the collection as ended."""
        return replace(self, state=state, reason="", condemned=Tally(), ended_at=at)


@dataclass(frozen=True, kw_only=True)
class Condemned(Entity):
    """An object that no version needs. A commit that needs it after all spares it, until it is being swept."""

    kind: LakeKind
    object: str
    size: int
    state: Literal["condemned", "sweeping"] = "condemned"


def condemned_id(project: str, kind: str, object_id: str) -> str:
    """Return the id of the sentence on an object."""
    return key(project, kind, object_id)
