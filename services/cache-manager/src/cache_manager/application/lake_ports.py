"""What the handlers need of the lake: versions in the object store, as a protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cache_manager.domain.selection import WHOLE, Selection
from millrace.datasets.shelf import Shelf


@dataclass(frozen=True)
class VersionFacts:
    """What the lake says about a version, or about the part of it that is selected.

    `files`, `bytes` and `tree_root` are those of that part; `stored_bytes` and `stored_files` are what a copy puts into
    a site's folder, `folders` the folders below it; `objects` are the packs and chunks that hold the bytes.
    """

    commit: str
    tree_root: str
    manifest: str
    files: int
    bytes: int
    folders: int
    objects: int = 0
    stored_bytes: int = 0
    stored_files: int = 0
    selection: Selection = WHOLE


@dataclass(frozen=True)
class Filled:
    """What a fill wrote, how many bytes of it came from the lake, and how many were shared with another copy.

    `resumed_bytes` of those that came from the lake did so for an earlier attempt.
    """

    tree_root: str
    files: int
    bytes: int
    fetched_bytes: int
    linked_bytes: int = 0
    resumed_bytes: int = 0


@dataclass(frozen=True)
class Near:
    """Another published copy at the same site, in the same form."""

    commit: str
    path: Path
    selection: Selection = WHOLE


@dataclass(frozen=True)
class Checked:
    """What reading a part of a tree found. `next`: the file to go on with, None at the end."""

    next: int | None
    bytes: int
    damaged: Sequence[str]


class Lake(Protocol):
    """Dataset versions in the object store."""

    async def facts(self, project: str, commit: str, selection: Selection) -> VersionFacts:
        """Return what the selected part of a version consists of. Raises NotFound, Corrupt, Invalid, Unavailable."""

    async def fill(
        self,
        project: str,
        facts: VersionFacts,
        target: Path,
        progress: Callable[[int, int], None],
        *,
        near: Near | None = None,
        shelf: Shelf | None = None,
        resumed: bool = False,
    ) -> Filled:
        """Write what is selected into the folder `target`, each blob verified before its file has a name.

        Good files that lie in `target` stay, anything else there goes; `resumed` says that they came from the lake,
        for an earlier attempt at the same copy, and so count as fetched. Files, or packs, that `near` has are linked
        and not fetched. `shelf` shows packs as they land, and decides which comes next; files have none.

        All is durable when it returns. `progress(written bytes, fetched bytes)` is called now and then. Passes the
        failpoints C3 to C6.
        """

    async def damaged(self, project: str, facts: VersionFacts, tree: Path) -> list[str]:
        """Return the paths below `tree` whose bytes are not as they should be: missing, different, or too many."""

    async def check(self, project: str, facts: VersionFacts, tree: Path, start: int, size: int) -> Checked:
        """Read files of a copy again, from the given one on (in an order of its own), until `size` bytes were read."""

    async def mend(self, project: str, facts: VersionFacts, paths: Sequence[str], target: Path) -> int:
        """Write those files of a copy that are at `paths` below the new folder `target`, verified and durable.

        Return the bytes that came from the lake. Raises like `fill`.
        """
