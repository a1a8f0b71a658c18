"""Files that libraries can read, over anything that is read by range: a landed object, a part of a spool."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

from millrace.errors import MillraceError

BLOCK = 4 * 1024 * 1024
"""Bytes that are fetched at once."""

READ_SECONDS = 300.0


class RangeFile(io.RawIOBase):
    """A seekable file over `read(offset, length)`; wrap it with `opened`."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._read, self._at = size, read, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        wanted = min(len(buffer), max(0, self._size - self._at))
        data = self._read(self._at, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def opened(size: int, read: Callable[[int, int], bytes]) -> io.BufferedReader:
    """Return a buffered file."""
    return io.BufferedReader(RangeFile(size, read), buffer_size=min(BLOCK, max(1, size)))


class LoopReader:
    """Lets threads read what only this event loop can. Make it in the loop, call it elsewhere.

    A library that reads through it turns every failure into its own; the first one is kept in `failure`.
    """

    def __init__(self, read: Callable[[int, int], Awaitable[bytes]]) -> None:
        self.failure: MillraceError | None = None
        self._read, self._loop = read, asyncio.get_running_loop()

    def __call__(self, offset: int, length: int) -> bytes:
        """Return bytes.

        Raises:
            OSError: they cannot be read.
        """
        try:
            return asyncio.run_coroutine_threadsafe(self._one(offset, length), self._loop).result(READ_SECONDS)
        except MillraceError as error:
            self.failure = self.failure or error
            raise OSError("the landed file cannot be read") from None

    async def _one(self, offset: int, length: int) -> bytes:
        return await self._read(offset, length)
