"""Memory that is used again: a fresh 32 MiB costs the kernel 8,192 page faults, more than its bytes cost to receive."""

from __future__ import annotations

import mmap

STEP = 4 * 1024 * 1024
"""Larger buffers have a multiple of this length, so that packs of nearly one size fit into each other's."""


def anonymous(size: int) -> mmap.mmap:
    """Return private memory that begins with a page."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Buffers:
    """Buffers lent one by one to those who fill them, as many as are filled at once. Not for several threads.

    Whoever may still write to a buffer does not give it back: one that is not given back is forgotten.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    def take(self, size: int) -> mmap.mmap:
        """Return a buffer of at least `size` bytes, with anything in it; its memory begins with a page."""
        fitting = min((at for at, it in enumerate(self._free) if len(it) >= size), default=None)
        if fitting is not None:
            return self._free.pop(fitting)
        if self._free:  # too small for what comes now, and so perhaps for all that comes
            self._free.pop()
        return anonymous(max(1, size if size <= STEP else -(-size // STEP) * STEP))

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back."""
        self._free.append(buffer)
