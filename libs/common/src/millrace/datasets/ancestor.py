"""Filling from what is near already: files that an older version's tree shares are linked, not fetched."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from millrace.datasets.folders import folder
from millrace.datasets.known import KnownBlobs, digests_of
from millrace.datasets.manifest import Entry, Manifest

BLOCK = 16_384
"""Files that are looked up at once, which bounds memory."""

_UNLINKABLE = frozenset({errno.EXDEV, errno.EMLINK, errno.ENOENT, errno.EPERM, errno.ENOTSUP, errno.ESTALE})


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A verified tree of another version on the same file system.

    It is held open while it is linked from; should it be removed meanwhile, what is gone is fetched.
    """

    root: Path
    manifest: Manifest


def link_shared(root: int, manifest: Manifest, rows: Any, ancestor: Ancestor) -> Any:
    """Link the files at `rows` whose bytes the ancestor has below the open folder `root`; return a mask of them.

    Where the file system refuses a link the file is left to be fetched.
    """
    sizes = manifest.table.column("size").to_numpy()[rows]
    theirs = KnownBlobs(ancestor.manifest).rows(digests_of(manifest.table)[rows], sizes)
    linked = (theirs >= 0) & (sizes > 0)
    where = np.flatnonzero(linked)
    try:
        source = os.open(ancestor.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # it was evicted meanwhile
        return np.zeros(len(rows), dtype=bool)
    try:
        for first in range(0, len(where), BLOCK):
            block = where[first : first + BLOCK]
            wanted, held = manifest.take(rows[block]), ancestor.manifest.take(theirs[block])
            linked[block] = list(_link_all(root, source, wanted, held))
    finally:
        os.close(source)
    return linked


def _link_all(root: int, source: int, wanted: list[Entry], held: list[Entry]) -> Iterator[bool]:
    """Link file by file, opening each folder once for neighbours."""
    with contextlib.ExitStack() as opened:
        open_folder, handle = None, -1
        for entry, old in zip(wanted, held, strict=True):
            parent, _, name = entry.path.rpartition("/")
            if parent != open_folder:
                opened.close()
                open_folder, handle = parent, opened.enter_context(folder(root, parent))
            yield _link(source, old.path, handle, name)


def _link(source: int, path: str, parent: int, name: str) -> bool:
    try:
        os.link(path, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno in _UNLINKABLE:
            return False
        raise
    return True
