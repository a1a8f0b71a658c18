"""What the handlers need of a site: its directory, as a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cache_manager.domain.charge import Charge
from cache_manager.domain.names import EntryKey
from cache_manager.domain.selection import Mode, Selection
from millrace.proximity import Proximity


@dataclass(frozen=True)
class Marker:
    """The content of `_READY`: what the tree beside it claims to be."""

    site: str
    project: str
    commit: str
    dataset: str
    version: int
    tree_root: str
    files: int
    bytes: int
    token: int
    mode: Mode = "tree"
    paths: tuple[str, ...] = ()

    @property
    def key(self) -> EntryKey:
        """Return the entry that the tree belongs to."""
        return EntryKey(self.site, self.project, self.commit, Selection(self.mode, self.paths).variant)


@dataclass(frozen=True)
class Found:
    """What lies on a site: copies by (project, name), names in `.staging`, `.trash`, `.quarantine` and `.early`."""

    trees: Sequence[tuple[str, str]]
    staging: Sequence[str]
    trash: Sequence[str]
    aside: Sequence[str] = ()
    early: Sequence[str] = ()


class SiteFolder(Protocol):
    """The directory of one site. Every call ends within a deadline; file-system errors come as OSError."""

    root: Path

    async def prepare(self) -> None:
        """Create what is missing, and mark the directory as this site's.

        Raises:
            SiteInvalid: it belongs to another site, or cannot be used.
        """

    async def retire(self) -> None:
        """Take the mark away and what is empty: the directory is nobody's then."""

    async def problem(self, *, within: float = 0.0) -> str | None:
        """Return why the site cannot be used now (an export that is not mounted), or None.

        The answer may be one that was found up to `within` seconds ago.
        """

    def path(self, key: EntryKey) -> Path:
        """Return the final path of an entry's tree."""

    def staging(self, key: EntryKey, token: int) -> Path:
        """Return where the holder of `token` builds the tree."""

    def shelf(self, key: EntryKey) -> Path:
        """Return where the packs of an entry are shown while it is filled, whoever fills it."""

    async def hide(self, key: EntryKey) -> None:
        """Delete the shelf of an entry, if there is one; files that have another name stay."""

    async def begin(self, key: EntryKey) -> None:
        """Delete what earlier owners of the entry left in staging; the shelf stays."""

    async def resume(self, key: EntryKey, token: int) -> int:
        """Take what earlier owners of the entry left in staging into this token's folder; return how many files."""

    async def seal(self, key: EntryKey, token: int, marker: Marker) -> None:
        """Write `_READY` into the staged tree, durably."""

    async def publish(self, key: EntryKey, token: int) -> None:
        """Rename the staged tree to its final path."""

    async def sync_parent(self, key: EntryKey) -> None:
        """Make the rename durable."""

    async def marker(self, key: EntryKey) -> Marker | None:
        """Return what the tree at the final path claims, or None if there is none that claims to be whole."""

    async def discard(self, key: EntryKey) -> None:
        """Delete every staging folder of an entry, and its shelf."""

    async def link(self, key: EntryKey, token: int) -> None:
        """Give the staging folder hard links to the files of the tree at the final path, if there is one."""

    async def probe(self) -> Proximity | None:
        """Measure how fast published files are read here, within bounds; None if there are none."""

    async def weigh(self, key: EntryKey, paths: Sequence[str]) -> Charge:
        """Return the room that those of the files at `paths` take which are there."""

    async def set_aside(self, key: EntryKey, paths: Sequence[str], *, keep: bool) -> None:
        """Move files of the tree at the final path into the quarantine, or delete them."""

    async def put_back(self, key: EntryKey, token: int) -> None:
        """Move the staged files of `token` to their places in the tree at the final path, each at once, durably."""

    async def forget_aside(self, key: EntryKey) -> None:
        """Delete what the quarantine holds of an entry."""

    async def holds(self, path: str) -> bool:
        """Return whether `path` is a folder that this process can read, outside of what the site manages itself."""

    async def link_from(self, path: str, key: EntryKey, token: int) -> None:
        """Give the staging folder hard links to the files of a folder; what cannot be linked is left out."""

    async def protect(self, key: EntryKey, token: int) -> None:
        """Make the staged files read-only, under whatever other names they have, too."""

    async def trash(self, key: EntryKey) -> bool:
        """Rename the tree at the final path into the trash; False if there is none."""

    async def restore(self, key: EntryKey) -> bool:
        """Rename the newest whole tree of an entry from the trash to the final path; False if there is none."""

    async def empty(self, key: EntryKey) -> None:
        """Delete what the trash holds of an entry: the marker first, then slowly."""

    async def remove(self, area: str, name: str) -> None:
        """Delete one name of `.staging`, `.trash`, `.quarantine` or `.early`."""

    async def found(self) -> Found:
        """List what lies on the site."""

    async def measure(self, key: EntryKey) -> tuple[int, int]:
        """Return files and bytes below the final path, the marker left out."""
