"""What every fill of a folder shares: what it reports, the points it passes, and how it becomes durable."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from millrace.datasets.folders import open_root, sync_files, sync_folders
from millrace.datasets.threads import to_the_end

Failpoint = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FillResult:
    """What a fill did. `files` and `bytes` are the version's; `fetched_bytes` really came from the lake.

    `kept_files` were in the staging folder already, `linked_files` were shared with the ancestor. `resumed_bytes` of
    the fetched ones came for an earlier fill of the same copy that was broken off.
    """

    files: int
    bytes: int
    fetched_bytes: int
    requests: int
    kept_files: int
    tree_root: str
    linked_files: int = 0
    linked_bytes: int = 0
    resumed_bytes: int = 0


async def no_failpoint(_name: str) -> None:
    """Pass every point."""


async def make_durable(staging: Path, failpoint: Failpoint) -> None:
    """Sync all files below `staging`, then all names. Passes the points C5 and C6."""
    await failpoint("fill.C5.before")
    await to_the_end(_sync_files, staging)
    await failpoint("fill.C5.after")
    await failpoint("fill.C6.before")
    await to_the_end(sync_folders, staging)
    await failpoint("fill.C6.after")


def _sync_files(staging: Path) -> None:
    root = open_root(staging)
    try:
        sync_files(root)
    finally:
        os.close(root)
