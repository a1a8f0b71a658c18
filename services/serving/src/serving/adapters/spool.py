"""A bounded file of batches that wait for the bus, read in the order they were written.

    frame = length u32 | crc32 u32 | subject LF message id LF rows LF payload

A torn or damaged frame ends the file: what follows it cannot be trusted. The file is emptied once all was read.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from serving.adapters.batches import Encoded

_FRAME = struct.Struct("<II")


class Spool:
    """At most `max_bytes` on disk. Not for several threads at once."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._max_bytes = max_bytes
        self._read_at = 0
        self._end = self._file.seek(0, os.SEEK_END)

    @property
    def empty(self) -> bool:
        """Return whether everything was read."""
        return self._read_at >= self._end

    @property
    def size(self) -> int:
        """Return the bytes that wait."""
        return self._end - self._read_at

    def append(self, batch: Encoded) -> bool:
        """Write a batch; False if there is no room, on the disk or by the limit."""
        body = f"{batch.subject}\n{batch.message_id}\n{batch.rows}\n".encode() + batch.payload
        frame = _FRAME.pack(len(body), zlib.crc32(body)) + body
        if self._end + len(frame) > self._max_bytes:
            return False
        try:
            self._file.seek(self._end)
            self._file.write(frame)
            self._file.flush()
        except OSError:
            self._truncate(self._end)
            return False
        self._end += len(frame)
        return True

    def peek(self) -> Encoded | None:
        """Return the oldest batch that waits."""
        if self.empty:
            return None
        try:
            return self._decode()
        except (struct.error, ValueError, OSError):
            self._truncate(0)
            return None

    def _decode(self) -> Encoded:
        self._file.seek(self._read_at)
        length, check = _FRAME.unpack(self._file.read(_FRAME.size))
        body = self._file.read(length)
        if len(body) != length or zlib.crc32(body) != check:
            raise ValueError("torn or damaged frame")
        subject, message_id, rows, payload = body.split(b"\n", 3)
        return Encoded(subject.decode(), message_id.decode(), payload, int(rows))

    def advance(self) -> None:
        """Forget the oldest batch."""
        self._file.seek(self._read_at)
        length, _ = _FRAME.unpack(self._file.read(_FRAME.size))
        self._read_at += _FRAME.size + length
        if self.empty:
            self._truncate(0)

    def _truncate(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError:
            return
        if size == 0:
            self._read_at = self._end = 0

    def close(self) -> None:
        """Close the file; what waits in it is read by the next process."""
        self._file.close()
