"""The object store as the catalog uses it: what a version consists of, and the object that commits it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from catalog.domain.collections import LakeKind, StoredObject
from millrace.objects import Presigned
from millrace.records import Record

ObjectKind = Literal["packs", "chunks", "manifests", "commits"]


@dataclass(frozen=True)
class Contents:
    """What a manifest says when it is read; `spares` are the packs of its spare copy, which may not be there."""

    tree_root: str
    files: int
    bytes: int
    packs: tuple[str, ...]
    chunks: tuple[str, ...]
    spares: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommitDraft:
    """What goes into a commit object."""

    parents: tuple[str, ...]
    tree_root: str
    manifest: str
    files: int
    bytes: int
    author: str
    message: str
    at: datetime
    lineage: dict[str, Any] = field(default_factory=dict)
    records: str | None = None


@dataclass(frozen=True)
class RecordCount:
    """How many records of a type there are, their bytes, and the names of their metadata fields."""

    type: str
    records: int
    bytes: int
    fields: tuple[str, ...]


class Lake(Protocol):
    """Dataset objects of all projects."""

    async def contents(self, project: str, manifest: str) -> Contents:
        """Read a manifest and recompute what it holds. Raises ObjectMissing, Corrupt."""

    async def missing(self, project: str, kind: ObjectKind, ids: list[str]) -> list[str]:
        """Return the ids that are not in the object store."""

    async def check_records(self, project: str, records: str, manifest: str) -> None:
        """Read a table of records and compare it with the manifest. Raises ObjectMissing, RecordsMismatch, Corrupt."""

    async def record_page(
        self, project: str, records: str, *, kind: str | None, path: str, start: int, limit: int
    ) -> tuple[list[Record], int | None]:
        """Return records from position `start` on, and the position to go on at."""

    async def record_summary(self, project: str, records: str) -> list[RecordCount]:
        """Return counts by type."""

    async def write_commit(self, project: str, draft: CommitDraft) -> str:
        """Write the commit object, create-only, and return its id; "already there" is success."""

    async def commit_is_whole(self, project: str, commit: str) -> bool:
        """Return whether the commit object is there and its bytes match its id."""

    async def manifest_is_whole(self, project: str, manifest: str) -> bool:
        """Return whether a manifest is there and its bytes match its id."""

    async def rebuild_manifests(self, project: str, manifests: list[str]) -> list[str]:
        """Write manifests again from their spare copies in packs; return those that could be."""

    async def rebuild_commit(self, project: str, commit: str, draft: CommitDraft) -> bool:
        """Write a commit object again if the draft gives just that one."""

    async def presign(self, method: Literal["GET", "PUT"], project: str, kind: ObjectKind, object_id: str) -> Presigned:
        """Return a request that allows `method` on one object for 15 minutes; a PUT only creates."""

    async def objects_of(self, project: str, manifest: str) -> set[tuple[LakeKind, str]]:
        """Return (kind, id) of a manifest and of all that it needs, its spare copy included.

        Raises ObjectMissing, Corrupt.
        """

    def objects(self, project: str) -> AsyncIterator[StoredObject]:
        """Yield every object of the project's datasets. What is not named as ours is left out."""

    async def delete(self, project: str, kind: LakeKind, object_id: str) -> None:
        """Remove an object; a missing one is no error."""

    async def size_of(self, key: str) -> int | None:
        """Return the size in bytes of an object by key, or None if it is not there."""

    async def digest_of(self, key: str) -> str:
        """Return the BLAKE3 of an object's bytes."""
