r"""The tree root: one digest for the content of a version, whatever packs it lies in.

    root = BLAKE3( "millrace-tree/1\n" + for each file in path order: u32 length of path, path, digest (32), u64 size )

Lengths stand before what they measure, so two different trees never give the same input. Mode and time are not part
of it: they do not change what a training reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from millrace.errors import Invalid

DOMAIN = b"millrace-tree/1\n"
_HEAD = struct.Struct("<I")
_TAIL = struct.Struct("<32sQ")
_FLUSH = 4096


def tree_root(rows: Iterable[tuple[str, bytes, int]]) -> str:
    """Return the root, hex, of (path, digest, size) rows that are strictly sorted by path.

    Raises:
        Invalid: the rows are not sorted, or a path occurs twice.
    """
    hasher = blake3(DOMAIN)
    parts: list[bytes] = []
    previous: bytes | None = None
    for path, digest, size in rows:
        name = path.encode()
        if previous is not None and name <= previous:
            raise Invalid("tree rows must be strictly sorted by path")
        previous = name
        parts += (_HEAD.pack(len(name)), name, _TAIL.pack(digest, size))
        if len(parts) >= _FLUSH:
            hasher.update(b"".join(parts))
            parts.clear()
    hasher.update(b"".join(parts))
    return hasher.hexdigest()


def table_root(batches: Iterable[Any]) -> str:
    """Return the root, hex, of Arrow batches with `path`, `blake3` and `size`, strictly sorted by path already."""
    hasher = blake3(DOMAIN)
    for batch in batches:
        paths = batch.column("path")
        joined = pc.binary_join_element_wise(
            _fixed(pc.binary_length(paths).cast(pa.uint32()), "<u4"),
            paths.cast(pa.binary()),
            batch.column("blake3").cast(pa.binary()),
            _fixed(batch.column("size"), "<u8"),
            b"",
        )
        hasher.update(_values(joined))
    return hasher.hexdigest()


def _fixed(numbers: Any, kind: str) -> Any:
    """Return little-endian numbers as binary values of their width."""
    data = np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False).astype(kind))
    width = pa.binary(data.dtype.itemsize)
    return pa.Array.from_buffers(width, len(data), [None, pa.py_buffer(data)]).cast(pa.binary())


def _values(array: Any) -> memoryview:
    """Return the bytes of all values of a binary array, one after the other."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    return memoryview(array.buffers()[2])[int(offsets[0]) : int(offsets[-1])] if len(array) else memoryview(b"")
