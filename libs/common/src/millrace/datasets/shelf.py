"""Showing what a fill has landed while it goes on, so that readers need not wait for the rest.

    <shelf>/packs/<pack>, <shelf>/chunks/<chunk>, <shelf>/manifest     hard links to files that were verified

The staging folder belongs to one owner, and changes its name with it. The shelf belongs to the copy: names on it are
digests of bytes, so that it does not matter who puts them there, or whether two do. A file is linked once it was
closed: who opens it by another mount sees all of it. It is not synced, since a reader needs no promise about power
failures; who takes files from a shelf for a fill must therefore verify them again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from millrace.datasets.folders import FOLDER_MODE
from millrace.datasets.turns import Turns


async def _nothing() -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Shelf:
    """Where a fill shows what it has. `opened` is awaited once the manifest is there, `turns` say what comes next."""

    root: Path
    turns: Turns = field(default_factory=Turns)
    opened: Callable[[], Awaitable[None]] = _nothing

    def prepare(self, folders: tuple[str, ...]) -> None:
        """Make the shelf, unless an earlier fill of the same copy did."""
        self.root.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        for folder in (self.root, *(self.root / name for name in folders)):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)

    def show(self, staged: Path, name: str) -> None:
        """Give a verified, closed file its name on the shelf, if it has none there.

        A shelf is a courtesy: where that fails (it was taken away meanwhile, say) readers wait until the fill is over.
        """
        with contextlib.suppress(OSError):
            os.link(staged / name, self.root / name, follow_symlinks=False)

    def lend(self, name: str, target: Path) -> bool:
        """Link what lies on the shelf to `target`, unverified; False if it is not there."""
        try:
            os.link(self.root / name, target, follow_symlinks=False)
        except OSError:
            return False
        return True

    def drop(self, name: str) -> None:
        """Take a damaged file off the shelf."""
        with contextlib.suppress(FileNotFoundError):
            (self.root / name).unlink()
