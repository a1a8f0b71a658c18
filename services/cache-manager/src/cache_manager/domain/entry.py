"""A cache entry: one dataset version at one site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cache_manager.domain.charge import Charge
from cache_manager.domain.names import EntryKey
from cache_manager.domain.selection import Mode, Selection
from cache_manager.domain.states import State

Desired = Literal["present", "absent"]
EvictReason = Literal["cleared", "age", "pressure", "damaged"]


@dataclass(frozen=True, order=True)
class Asked:
    """When a wish was uttered: the request's sequence, then its time-ordered id. The newest wish wins.

    Sequence 0 stands for "now": a wish over HTTP, as new as the newest event.
    """

    sequence: int = 0
    id: str = ""


@dataclass(frozen=True)
class Cause:
    """Who asked, and the story that the answer belongs to."""

    event: bytes | None = None
    principal: str | None = None
    correlation: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class Grant:
    """A run's right to the path: `beat` rises with each renewal, and whoever sees it unchanged for long may end it.

    `hit` says that the bytes had been fetched for somebody else, `fresh` that the run held no lease before this one.
    `wanted` is what the run's readers need next of a copy that is being filled: names of packs and chunks, by reader.
    """

    token: int
    beat: int = 0
    hit: bool = False
    fresh: bool = True
    wanted: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pin:
    """A lease without end, set by somebody who may: nothing but its removal lets the copy go."""

    by: str
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class Entry:
    """What is remembered of an entry. `token` is the fencing token of whoever worked on it last.

    `files`, `bytes` and `tree_root` are those of what the copy holds of the version, `stored` the bytes and files that
    lie at the site for it.

    `misses` counts the first uses of its fills, `hits` all others; `uses` are those of the fill that is there.

    `readable`: it is being filled, and what has landed can be read already.

    `heat` counts uses, each of them half as much after a day; `fill_seconds` is what the last whole fetch took.
    """

    site: str
    project: str
    commit: str
    dataset: str
    version: int
    state: State = State.QUEUED
    desired: Desired = "present"
    reason: str = ""
    asked: Asked = field(default_factory=Asked)
    cause: Cause = field(default_factory=Cause)
    revision: int = 1
    token: int = 0
    attempts: int = 0
    retry_at: datetime | None = None
    charge: Charge = field(default_factory=Charge)
    files: int = 0
    bytes: int = 0
    tree_root: str = ""
    mode: Mode = "tree"
    paths: tuple[str, ...] = ()
    stored: Charge = field(default_factory=Charge)
    fetched_bytes: int = 0
    saved_bytes: int = 0
    progress: float = 0.0
    hits: int = 0
    misses: int = 0
    uses: int = 0
    heat: float = 0.0
    readable: bool = False
    leases: Mapping[str, Grant] = field(default_factory=dict)
    pins: Mapping[str, Pin] = field(default_factory=dict)
    idle_seconds: float = 0.0
    fill_seconds: float = 0.0
    evict_reason: EvictReason = "cleared"
    adopt_from: str = ""
    scrub_wanted: bool = False
    scrub_position: int = 0
    scrubbed_at: datetime | None = None
    created_at: datetime | None = None
    ready_at: datetime | None = None

    @property
    def key(self) -> EntryKey:
        """Return what makes the entry one and the same."""
        return EntryKey(self.site, self.project, self.commit, self.selection.variant)

    @property
    def selection(self) -> Selection:
        """Return what of the version the copy holds, and in which form."""
        return Selection(self.mode, self.paths)

    @property
    def held(self) -> bool:
        """Return whether a run or a pin keeps it."""
        return bool(self.leases or self.pins)

    @property
    def id(self) -> str:
        """Return `<site>.<project>.<copy>`."""
        return self.key.id
