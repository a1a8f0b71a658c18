"""Reports in a file of JSON lines, with a side file that says how far they are shipped. Survives the process.

Lines are written through to the system, not synced: they outlive a kill, and a power cut costs at most what a resumed
run measures again.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from trainer.application.ports import Report


class FileSpool:
    """One run's reports under one fence."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".at")
        self._waiting: deque[Report] = deque()
        self._shipped = 0
        if path.exists():
            self._read()
        self._file = path.open("ab", buffering=0)

    def append(self, report: Report) -> None:
        """Keep a report; it is shipped later. A full disk costs the copy on disk, not the report."""
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(asdict(report)).encode() + b"\n")
        self._waiting.append(report)

    def waiting(self, limit: int) -> list[Report]:
        """Return the oldest reports that are not shipped."""
        return list(islice(self._waiting, limit))

    def shipped(self, count: int) -> None:
        """Forget the oldest `count`."""
        for _ in range(count):
            self._waiting.popleft()
        self._shipped += count
        with contextlib.suppress(OSError):
            self._mark.write_text(str(self._shipped), encoding="ascii")

    def close(self) -> None:
        """Close the file; remove it if everything is shipped."""
        self._file.close()
        if not self._waiting:
            self._path.unlink(missing_ok=True)
            self._mark.unlink(missing_ok=True)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._shipped = int(self._mark.read_text(encoding="ascii"))
        for number, line in enumerate(self._path.read_bytes().split(b"\n")):
            if number >= self._shipped and line:
                with contextlib.suppress(ValueError, TypeError):  # a line that was cut by a kill
                    self._waiting.append(Report(**json.loads(line)))
