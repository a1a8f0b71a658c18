"""How near a mounted folder is: how fast its files are read, how long opening one takes. Blocking; writes nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
MAX_OPENS = 200
MAX_SECONDS = 5.0
PIECE = 1024 * 1024


@dataclass(frozen=True)
class Proximity:
    """What a probe measured: bytes a second, and seconds to open a file."""

    read_bytes_per_second: float
    open_seconds: float


def probe(folder: Path) -> Proximity | None:
    """Open and read files below `folder`, as few as the bounds say; None if there are none to read.

    The page cache is asked to forget each file first. What cannot be read is left out.
    """
    opened = read = 0
    opening = reading = 0.0
    end = time.monotonic() + MAX_SECONDS
    for path in _files(folder):
        if opened >= MAX_OPENS or read >= MAX_BYTES or time.monotonic() > end:
            break
        with contextlib.suppress(OSError):
            begun = time.perf_counter()
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            opening += time.perf_counter() - begun
            opened += 1
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                begun = time.perf_counter()
                while read < MAX_BYTES and (piece := os.read(handle, PIECE)):
                    read += len(piece)
                reading += time.perf_counter() - begun
            finally:
                os.close(handle)
    if not read or reading <= 0.0:
        return None
    return Proximity(read / reading, opening / opened)


def _files(folder: Path) -> Iterator[str]:
    for current, _, names in os.walk(folder, followlinks=False):
        for name in names:
            yield f"{current}/{name}"
