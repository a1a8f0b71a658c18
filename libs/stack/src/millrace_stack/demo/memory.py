"""How much memory the whole stack holds: proportional set sizes (PSS), summed each second, largest sum kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path


def pss_bytes(pid: int) -> int:
    """Return a process's proportional set size; 0 where it is gone or not ours."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


class MemoryWatch:
    """Samples in the background until `stop`."""

    def __init__(self, pids: Callable[[], Iterable[int]], *, seconds: float = 1.0) -> None:
        self.peak = 0
        self._pids = pids
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.peak = max(self.peak, sum(pss_bytes(pid) for pid in {*self._pids(), os.getpid()}))

    def stop(self) -> float:
        """Stop sampling; return the peak in megabytes (10^6)."""
        self._ended.set()
        self._thread.join()
        return round(self.peak / 1e6, 1)
