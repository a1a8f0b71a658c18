"""Coroutines for those who block: an event loop in a thread of its own, whatever runs in the caller's thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines and waits for them. A process that was forked off gets a loop and a thread of its own.

    It works below a loop that runs already (a notebook's), and in the workers of a data loader.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._starting = threading.Lock()

    @property
    def begun_here(self) -> bool:
        """Return whether the thread was begun in this very process."""
        return self._pid == os.getpid()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns."""
        with self._starting:
            if not self.begun_here:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="millrace-loop", daemon=True)
                self._thread.start()
                self._pid = os.getpid()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the thread, if this process has one."""
        if not self.begun_here:
            return
        self._pid = 0
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._loop.is_running():
            self._loop.close()
