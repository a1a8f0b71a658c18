r"""The tree root: one digest for the content of a version, whatever packs it lies in.

    root = BLAKE3( "millrace-tree/1\n" + for each file in path order: u32 length of path, path, digest (32), u64 size )

Lengths stand before what they measure, so two different trees never give the same input. Mode and time are not part
of it: they do not change what a training reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

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
