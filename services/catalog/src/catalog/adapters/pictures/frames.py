"""What goes between the gateway and the process that paints: a length, JSON, and bytes."""

from __future__ import annotations

import json
import struct
from typing import Any

LENGTH = struct.Struct("<I")
MAX_HEAD = 16 * 1024
MAX_PICTURE = 32 * 1024 * 1024


def framed(head: dict[str, Any]) -> bytes:
    """Return a head as it is sent; the bytes that it speaks of follow."""
    text = json.dumps(head).encode()
    return LENGTH.pack(len(text)) + text


def length_of(data: bytes) -> int:
    """Return the length of the head that follows.

    Raises:
        ValueError: no head is that long.
    """
    length: int = LENGTH.unpack(data)[0]
    if length > MAX_HEAD:
        raise ValueError("a head is too long")
    return length
