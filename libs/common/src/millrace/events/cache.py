"""Facts about copies of dataset versions at sites."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from millrace.events.envelope import GrownEventData
from millrace.events.names import Digest, ResourceName

Reason = Annotated[str, StringConstraints(max_length=2_000)]


class Selected(BaseModel):
    """What of a version is meant: everything or the paths that match, as a tree of files or as packs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    mode: Literal["tree", "packs"] = "tree"
    paths: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=500)], ...], Field(max_length=64)
    ] = ()


class CacheRequested(GrownEventData):
    """A version should be present at a site, or absent from it."""

    TYPE: ClassVar[str] = "cache.requested"
    LATER: ClassVar[tuple[str, ...]] = ("selected",)

    site: ResourceName
    dataset: ResourceName
    version: int = Field(ge=1)
    commit: Digest
    desired: Literal["present", "absent"] = "present"
    reason: Reason = ""
    selected: Selected = Field(default=Selected(), description="without it: the whole version as a tree of files")


class _EntryFact(GrownEventData):
    LATER: ClassVar[tuple[str, ...]] = ("variant",)

    entry: str = Field(max_length=256)
    site: ResourceName
    dataset: ResourceName
    version: int = Field(ge=1)
    commit: Digest
    variant: str = Field(default="", max_length=64, description="empty for the whole version as a tree of files")


class CacheReady(_EntryFact):
    """A complete, verified tree lies at its final path on the site."""

    TYPE: ClassVar[str] = "cache.ready"

    path: str = Field(max_length=4_096)
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    fetched_bytes: int = Field(ge=0, description="bytes that really came from the lake for this fill")
    tree_root: Digest
    token: int = Field(ge=1, description="fencing token of the fill")
    seconds: float = Field(ge=0)


class CacheFailed(_EntryFact):
    """A fill failed; `retry_at` says when it is tried again, if it is."""

    TYPE: ClassVar[str] = "cache.failed"

    reason: Reason
    retry_at: str | None = Field(default=None, max_length=64)


class CacheEvicted(_EntryFact):
    """The copy left its final path; nobody can open it any more."""

    TYPE: ClassVar[str] = "cache.evicted"

    reason: Literal["cleared", "age", "pressure", "damaged"]
    bytes: int = Field(ge=0)


class CacheRepaired(_EntryFact):
    """Damaged files of a copy were replaced from the lake."""

    TYPE: ClassVar[str] = "cache.repaired"

    files: int = Field(ge=1)
