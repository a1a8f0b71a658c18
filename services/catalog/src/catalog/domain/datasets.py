"""Datasets and their versions: a head that only ever moves forward from the parent it was read at.

What is removed stays as a tombstone: numbers are never used twice, and lineage can still say what there was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from catalog.domain.entity import Entity, key
from catalog.errors import HeadMoved, StillTheHead
from millrace.errors import Invalid

PREFIX_LENGTH = 8
"""Fewest hex digits that may stand for a commit."""


@dataclass(frozen=True)
class Head:
    """The newest version of a dataset."""

    version: int
    commit: str
    tree_root: str


@dataclass(frozen=True)
class Removal:
    """Who took something away, when and why."""

    at: datetime
    by: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset(Entity):
    """A named line of versions.

    `checks` is the JSON of the document that says what every version must hold, empty where it demands nothing.
    `retired` is the last number of the dataset's earlier lives: it was removed, and its name used again. What was
    removed with it went at `retired_at`.
    """

    name: str
    description: str = ""
    head: Head | None = None
    created_by: str
    created_at: datetime
    checks: str = ""
    removed: Removal | None = None
    retired: int = 0
    retired_at: datetime | None = None

    def advance(self, *, parent: str | None, commit: str, tree_root: str) -> Dataset:
        """Return the dataset with its head one version further.

        Raises:
            HeadMoved: the head is not (any more) the parent that the writer built upon.
        """
        current = self.head.commit if self.head else None
        if current != parent:
            raise HeadMoved(
                f"the head of {self.name} moved", hint="sync again on top of the new head", head=current, parent=parent
            )
        number = self.head.version + 1 if self.head else self.retired + 1
        return replace(self, head=Head(version=number, commit=commit, tree_root=tree_root))

    def check_removable(self, version: Version) -> None:
        """Return if a version may be taken out of the line.

        Raises:
            StillTheHead: the next version is built upon it, and `latest` means it.
        """
        if self.head is not None and self.head.version == version.version:
            raise StillTheHead(
                f"{self.name}@{version.version} is the head of its dataset",
                hint="commit the version that shall replace it first, or remove the whole dataset",
            )

    def revive(self, *, description: str, by: str, at: datetime) -> Dataset:
        """Return the dataset as a new, empty one of the same name; its numbers go on where they ended."""
        assert self.removed is not None  # noqa: S101 - asked only of a removed dataset
        retired = self.head.version if self.head else self.retired
        return replace(
            self,
            head=None,
            description=description,
            created_by=by,
            created_at=at,
            removed=None,
            retired=retired,
            retired_at=self.removed.at,
        )


@dataclass(frozen=True, kw_only=True)
class Version(Entity):
    """One immutable version: what the commit object says, its number, and the digest of the checks that it passed."""

    dataset: str
    version: int
    commit: str
    parent: str | None
    tree_root: str
    manifest: str
    files: int
    bytes: int
    packs: tuple[str, ...] = ()
    author: str
    message: str = ""
    lineage: dict[str, Any] = field(default_factory=dict)
    records: str | None = None
    checks: str | None = None
    created_at: datetime
    removed: Removal | None = None

    def removed_at(self, dataset: Dataset) -> datetime | None:
        """Return since when the version is not to be had: by itself, or with its dataset; None if it is."""
        if self.removed is not None:
            return self.removed.at
        if self.version <= dataset.retired:
            return dataset.retired_at
        return dataset.removed.at if dataset.removed is not None else None


def dataset_id(project: str, name: str) -> str:
    """Return the id of a dataset."""
    return key(project, name)


def version_id(project: str, dataset: str, version: int) -> str:
    """Return the id of a dataset version; uniqueness of numbers rests on it."""
    return key(project, dataset, version)


@dataclass(frozen=True)
class Reference:
    """A parsed version reference: exactly one of number, commit prefix, or neither (the head)."""

    number: int | None = None
    prefix: str | None = None


def parse_reference(text: str) -> Reference:
    """Parse `latest`, a version number, or a commit (or at least eight hex digits of one).

    Raises:
        Invalid: it is none of these.
    """
    if text == "latest":
        return Reference()
    if re.fullmatch(r"[1-9][0-9]{0,6}", text):
        return Reference(number=int(text))
    if re.fullmatch(rf"[0-9a-f]{{{PREFIX_LENGTH},64}}", text):
        return Reference(prefix=text)
    raise Invalid("a version is a number, `latest`, or at least eight hex digits of its commit")
