"""Width and height of an image from its first bytes, without decoding a pixel: no codec ever sees a stranger's file."""

from __future__ import annotations

import struct
from typing import Any

MAX_SIDE = 1 << 24


def dimensions(head: bytes, media_type: str) -> dict[str, Any]:
    """Return width and height in pixels (and more where it is said plainly); nothing where they cannot be told."""
    reader = _READERS.get(media_type)
    try:
        facts = reader(head) if reader is not None else {}
    except (struct.error, IndexError):
        return {}
    sides = [facts.get("width", 0), facts.get("height", 0)]
    return facts if all(0 < side <= MAX_SIDE for side in sides) else {}


def _png(head: bytes) -> dict[str, Any]:
    if head[12:16] != b"IHDR":
        return {}
    width, height, depth, colour = struct.unpack_from(">IIBB", head, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    return {"width": width, "height": height, "bits": depth} | ({"channels": channels} if channels else {})


def _gif(head: bytes) -> dict[str, Any]:
    width, height = struct.unpack_from("<HH", head, 6)
    return {"width": width, "height": height}


def _bmp(head: bytes) -> dict[str, Any]:
    width, height = struct.unpack_from("<ii", head, 18)
    return {"width": width, "height": abs(height)}


def _webp(head: bytes) -> dict[str, Any]:
    form = head[12:16]
    if form == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
    elif form == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif form == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 26))
    else:
        return {}
    return {"width": width, "height": height}


def _jpeg(head: bytes) -> dict[str, Any]:
    """Walk the segments to the frame header; a large thumbnail before it may lie beyond what was read."""
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            bits, height, width, channels = struct.unpack_from(">BHHB", head, at + 4)
            return {"width": width, "height": height, "bits": bits, "channels": channels}
        if marker in {0xFF, 0x01} or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + max(2, struct.unpack_from(">H", head, at + 2)[0])
    return {}


def _tiff(head: bytes) -> dict[str, Any]:
    order = "<" if head[:2] == b"II" else ">"
    at = struct.unpack_from(f"{order}I", head, 4)[0]
    facts: dict[str, Any] = {}
    for index in range(min(64, struct.unpack_from(f"{order}H", head, at)[0])):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", head, at + 2 + 12 * index)
        value = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", head, at + 10 + 12 * index)[0]
        if tag in {256, 257}:
            facts["width" if tag == 256 else "height"] = value
    return facts


_READERS = {
    "image/png": _png,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/webp": _webp,
    "image/jpeg": _jpeg,
    "image/tiff": _tiff,
}
