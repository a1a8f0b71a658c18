"""Reading the log files of a stack: the last lines, and what is added."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from millrace_stack import process as processes
from millrace_stack.layout import Layout

POLL_SECONDS = 0.2


def recorded(layout: Layout) -> dict[str, Path]:
    """Return the log files that exist: process → file."""
    return {file.stem: file for file in sorted(layout.logs.glob("*.log"))}


class Follower:
    """Yields the last lines of some files, then, if asked, what is appended, also after a file was put aside."""

    def __init__(self, files: Mapping[str, Path], *, last: int) -> None:
        self._files = files
        self._last = last
        self._offsets: dict[str, int] = {}

    def lines(self, *, forever: bool) -> Iterator[tuple[str, str]]:
        """Yield (process, line)."""
        for name, file in self._files.items():
            self._offsets[name] = _size(file)
            text = processes.tail(file, self._last) if self._last else ""
            yield from ((name, line) for line in text.splitlines())
        while forever:
            for name, file in self._files.items():
                yield from ((name, line) for line in self._added(name, file))
            time.sleep(POLL_SECONDS)

    def _added(self, name: str, file: Path) -> list[str]:
        size = _size(file)
        start = self._offsets[name] if size >= self._offsets[name] else 0
        if size == start:
            return []
        with file.open("rb") as opened:
            opened.seek(start)
            whole = opened.read(size - start).rpartition(b"\n")[0]
        self._offsets[name] = start + len(whole) + (1 if whole else 0)
        return whole.decode(errors="replace").splitlines()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
