"""Reading a run of small files into one buffer, back to back, as a pack wants them. Blocking: called in threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from blake3 import blake3

from millrace.datasets.pack import size_with
from millrace.datasets.scan import Listing
from millrace.datasets.sources import opened, read_into


def segments(sizes: Any, indices: Any, target: int) -> Iterator[Any]:
    """Cut `indices` into runs whose packs stay under `target` bytes, by sizes alone: the same files, the same runs."""
    start = total = 0
    for place, size in enumerate(sizes[indices].tolist()):
        if place > start and size_with(place - start + 1, total + size) > target:
            yield indices[start:place]
            start, total = place, 0
        total += size
    if start < len(indices):
        yield indices[start:]


def read_segment(files: Listing, indices: Sequence[int], into: memoryview) -> Any:
    """Read the files at `indices` one behind the other; return their digests, (n, 32) bytes.

    Raises:
        Changed: a file is no longer what the scan saw.
        Invalid: one cannot be read.
    """
    digests = bytearray()
    at = 0
    for index in indices:
        end = at + files.sizes[index]
        place = into[at:end]
        with opened(files.full(index), files.identity(index), files.path(index)) as handle:
            read_into(handle, place, 0)
        digests += blake3(place).digest()
        at = end
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)
