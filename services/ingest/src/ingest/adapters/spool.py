"""One file without a name on the local disk, for what must lie somewhere between landing and lake.

It is unlinked before the first byte is written: whatever ends the process, nothing stays behind, and no name from an
archive or a landing ever becomes a name here.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ingest.errors import LandingTooLarge
from millrace.errors import Exhausted, Unavailable


@dataclass(frozen=True, slots=True)
class Span:
    """Where bytes lie in a spool."""

    start: int
    size: int


class Spool:
    """Append-only; at most `limit` bytes. Safe to use from several threads.

    Raises:
        LandingTooLarge: more than `limit` bytes were written.
        Exhausted: the disk is full.
        Unavailable: the folder is not there, or not ours.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self._limit, self._end, self._lock = limit, 0, threading.Lock()
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix="millrace-ingest-")  # noqa: SIM115 - see `close`
        except OSError as error:
            raise Unavailable(f"the local disk cannot be written: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Return the bytes written so far."""
        return self._end

    def append(self, data: bytes) -> Span:
        """Write bytes and return where they lie."""
        with self._lock:
            start = self._end
            if start + len(data) > self._limit:
                raise LandingTooLarge(
                    f"unpacked and de-identified files exceed {self._limit} bytes of local disk",
                    hint="land less at once, or raise MILLRACE_INGEST_SPOOL_BYTES",
                )
            self._end += len(data)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], start + done)
        except OSError as error:
            raise Exhausted(f"the local disk takes no more: {error.strerror}") from None
        return Span(start, len(data))

    def read(self, span: Span, offset: int, length: int) -> bytes:
        """Return bytes of a span; fewer at its end."""
        wanted = max(0, min(length, span.size - offset))
        data = os.pread(self._file.fileno(), wanted, span.start + offset)
        while len(data) < wanted:
            data += os.pread(self._file.fileno(), wanted - len(data), span.start + offset + len(data))
        return data

    async def read_async(self, span: Span, offset: int, length: int) -> bytes:
        """Return bytes of a span from a thread."""
        return await asyncio.to_thread(self.read, span, offset, length)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()
