"""Hashes of files that have not changed, remembered on local disk, so that a second sync reads nothing.

The key is (device, inode, size, mtime, ctime), times in nanoseconds. A file touched within two seconds of the scan is
neither believed nor remembered: it could change again within the clock's grain. SQLite is for local disks only, so the
cache lives in the user's cache folder and never in the data folder, which may be NFS. Losing it costs only time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from millrace.datasets.scan import Listing

RACY_NS = 2_000_000_000
COLUMNS = ("devices", "inodes", "sizes", "mtimes", "ctimes")
ROWS = 65_536
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
  device INTEGER, inode INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, digest BLOB, PRIMARY KEY (device, inode)
) WITHOUT ROWID
"""
_ALL = "SELECT device, inode, size, mtime, ctime, digest FROM hashes WHERE length(digest) = 32"
_PUT = "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)"


class StatCache:
    """Digests by file identity. One thread at a time; a damaged file is thrown away and begun again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", _SCHEMA):
            db.execute(statement)
        return db

    def look_up(self, files: Listing, *, now_ns: int) -> tuple[Any, Any]:
        """Return (digests, known): a (files, 32) array of bytes and a mask of the rows that are believed."""
        digests = np.zeros((len(files), 32), dtype=np.uint8)
        known = np.zeros(len(files), dtype=bool)
        keys, kept = self._all()
        if not len(kept) or not len(files):
            return digests, known
        order = np.argsort(keys[:, 1], kind="stable")
        wanted = files.column("inodes").view(np.int64)
        rows = order[np.minimum(np.searchsorted(keys[:, 1], wanted, sorter=order), len(order) - 1)]
        known = ~racy(files, now_ns)
        for place, name in enumerate(COLUMNS):
            known &= keys[rows, place] == files.column(name).view(np.int64)
        digests[known] = kept[rows[known]]
        return digests, known

    def _all(self) -> tuple[Any, Any]:
        """Return all rows: five numbers each, and the digests. Two devices with equal inodes only cost a hash."""
        numbers, digests = [], []
        with contextlib.suppress(sqlite3.Error):
            cursor = self._db.execute(_ALL)
            while rows := cursor.fetchmany(ROWS):
                numbers.append(np.array([row[:5] for row in rows], dtype=np.int64))
                digests.append(np.frombuffer(b"".join(row[5] for row in rows), dtype=np.uint8).reshape(-1, 32))
        if not numbers:
            return np.empty((0, 5), np.int64), np.empty((0, 32), np.uint8)
        return np.concatenate(numbers), np.concatenate(digests)

    def remember(self, files: Listing, indices: Any, digests: Any, *, now_ns: int) -> None:
        """Keep the digests, (n, 32) bytes, of the files at `indices`; a full disk only makes the next sync slower."""
        settled = ~_young(files.column("mtimes")[indices], files.column("ctimes")[indices], now_ns)
        wanted = indices[settled]
        if not len(wanted):
            return
        columns = [files.column(name)[wanted].view(np.int64).tolist() for name in COLUMNS]
        blobs = (digest.tobytes() for digest in digests[settled])
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("BEGIN")
            self._db.executemany(_PUT, zip(*columns, blobs, strict=True))
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def racy(files: Listing, now_ns: int) -> Any:
    """Return a mask of the files that are too young to be believed."""
    return _young(files.column("mtimes"), files.column("ctimes"), now_ns)


def _young(mtimes: Any, ctimes: Any, now_ns: int) -> Any:
    return np.maximum(mtimes, ctimes) > now_ns - RACY_NS
