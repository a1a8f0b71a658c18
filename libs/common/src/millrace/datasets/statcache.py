"""Hashes of files that have not changed, remembered on local disk, so that a second sync reads nothing.

The key is (device, inode, size, mtime, ctime), times in nanoseconds. A file touched within two seconds of the scan is
neither believed nor remembered: it could change again within the clock's grain. SQLite is for local disks only, so the
cache lives in the user's cache folder and never in the data folder, which may be NFS. Losing it costs only time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

RACY_NS = 2_000_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
  device INTEGER, inode INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, digest BLOB, PRIMARY KEY (device, inode)
) WITHOUT ROWID
"""
_FIND = "SELECT digest FROM hashes WHERE device=? AND inode=? AND size=? AND mtime=? AND ctime=?"
_PUT = "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)"


def default_path(root: Path) -> Path:
    """Return where the cache of a data folder lives: `$MILLRACE_CACHE_DIR`, else below the user's cache folder."""
    base = os.environ.get("MILLRACE_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = blake3(os.fsencode(root.resolve())).hexdigest(16)
    return Path(base) / "millrace" / f"stat-{name}.sqlite"


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

    def find(self, info: os.stat_result, *, now_ns: int) -> bytes | None:
        """Return the digest of the file that `info` describes, if it is known and the file is not too young."""
        if _racy(info, now_ns):
            return None
        with contextlib.suppress(sqlite3.Error):
            row = self._db.execute(_FIND, _key(info)).fetchone()
            if row is not None and isinstance(row[0], bytes) and len(row[0]) == 32:
                return row[0]
        return None

    def remember(self, rows: Iterable[tuple[os.stat_result, bytes]], *, now_ns: int) -> None:
        """Keep digests, in one transaction; a full disk only makes the next sync slower."""
        wanted = [(*_key(info), digest) for info, digest in rows if not _racy(info, now_ns)]
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("BEGIN")
            self._db.executemany(_PUT, wanted)
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


def _key(info: os.stat_result) -> tuple[int, int, int, int, int]:
    # SQLite integers are signed; an inode or device may use the sign bit.
    return (_signed(info.st_dev), _signed(info.st_ino), info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _racy(info: os.stat_result, now_ns: int) -> bool:
    return max(info.st_mtime_ns, info.st_ctime_ns) > now_ns - RACY_NS
