"""Memory that is used again: a fresh 32 MiB costs the kernel 8,192 page faults, more than its bytes cost to receive."""

from __future__ import annotations

from millrace.datasets.limits import PACK_MAX
from millrace.errors import Corrupt

STEP = 4 * 1024 * 1024
"""Larger buffers have a multiple of this length, so that packs of nearly one size fit into each other's."""


class Buffers:
    """Buffers lent one by one to those who fill them. Not for several threads at once.

    Whoever may still write to a buffer does not give it back: one that is not given back is forgotten.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """Return a buffer of at least `size` bytes, with anything in it.

        Raises:
            Corrupt: no pack and no chunk is as large as that.
        """
        if not 0 <= size <= PACK_MAX:
            raise Corrupt(f"an object of {size} bytes is promised; none has more than {PACK_MAX}")
        fitting = min((at for at, it in enumerate(self._free) if len(it) >= size), default=None)
        if fitting is not None:
            return self._free.pop(fitting)
        if self._free:  # too small for what comes now, and so perhaps for all that comes
            self._free.pop()
        return bytearray(size if size <= STEP else -(-size // STEP) * STEP)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        self._free.append(buffer)
