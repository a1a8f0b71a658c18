"""Walking a folder without ever following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millrace.datasets.paths import RESERVED


@dataclass(frozen=True, slots=True)
class Found:
    """One thing in a folder: its path below the root as it is named there, where to open it, and its `lstat`."""

    path: str
    full: str
    stat: os.stat_result

    @property
    def regular(self) -> bool:
        """Return whether it is an ordinary file."""
        return stat.S_ISREG(self.stat.st_mode)


def walk(root: Path) -> Iterator[Found]:
    """Yield all that is no folder below `root`, folder by folder, names sorted, without `RESERVED` names at the top.

    Raises:
        OSError: a folder cannot be read.
    """
    yield from _walk(os.fspath(root), "")


def _walk(folder: str, prefix: str) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if not prefix and entry.name in RESERVED:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        else:
            yield Found(prefix + entry.name, entry.path, entry.stat(follow_symlinks=False))
