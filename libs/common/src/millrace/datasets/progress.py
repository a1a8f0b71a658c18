"""Telling somebody how far a transfer is, a few times a second and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from millrace.clock import SystemClock

INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. `files` and `bytes` are totals, `transferred_bytes` what really went over the wire."""

    files_done: int = 0
    files: int = 0
    bytes_done: int = 0
    bytes: int = 0
    transferred_bytes: int = 0


ProgressCallback = Callable[[Progress], None]


class Meter:
    """Adds up and reports, at most once every `INTERVAL` seconds."""

    def __init__(self, callback: ProgressCallback | None, *, files: int = 0, total: int = 0) -> None:
        self.state = Progress(files=files, bytes=total)
        self._callback = callback
        self._clock = SystemClock()
        self._next = 0.0

    def advance(self, *, files: int = 0, done: int = 0, transferred: int = 0) -> None:
        """Add what was done since the last call."""
        state = self.state
        self.state = replace(
            state,
            files_done=state.files_done + files,
            bytes_done=state.bytes_done + done,
            transferred_bytes=state.transferred_bytes + transferred,
        )
        if self._callback is not None and (now := self._clock.monotonic()) >= self._next:
            self._next = now + INTERVAL
            self._callback(self.state)

    def finish(self) -> None:
        """Report the last state."""
        if self._callback is not None:
            self._callback(self.state)
