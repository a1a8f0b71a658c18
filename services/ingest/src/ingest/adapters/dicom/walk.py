"""A walk over a DICOM file before any library believes it.

Every length lies inside the file; depth and number of elements are bounded. The walk allocates nothing, and decodes
nothing but the transfer syntax.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from ingest.adapters.dicom.detect import HEAD, LONG, VRS, has_preamble
from ingest.errors import DicomRefused

MAX_ELEMENTS = 250_000
"""Elements of one file, items and fragments included; a structure set of 200 structures has about 100,000."""

MAX_DEPTH = 16
"""Sequences within sequences; real files have up to 8."""

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
NOT_TAKEN = frozenset({f"{IMPLICIT}.{end}" for end in ("2", "1.99", "4.94", "4.95", "4.204", "4.205")})
"""Big-endian (retired), deflated (a bomb could hide in it), and pixel data that lies at some URL."""

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = 0x7FE00010


@dataclass(slots=True)
class _Frame:
    """What is being walked: the elements of a data set, the items of a sequence, or the fragments of pixel data."""

    kind: str
    end: int
    explicit: bool
    open_ended: bool = False


def check(data: bytes) -> str:
    """Walk a file and return its transfer syntax.

    Raises:
        DicomRefused: cut short, too deep, too many elements, or in a form that is not taken.
    """
    try:
        syntax, at = _syntax(data)
        _Walk(data, at, explicit=syntax != IMPLICIT).run()
    except (struct.error, IndexError):
        raise DicomRefused("the DICOM file is cut short") from None
    return syntax


def _syntax(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax and where the data set begins."""
    at, found = HEAD if has_preamble(data) else 0, ""
    while data[at : at + 2] == b"\x02\x00":
        tag, vr, length, value = _explicit(data, at)
        if value + length > len(data):
            raise DicomRefused("the DICOM file is cut short")
        if tag == 0x00020010 and vr == b"UI":
            found = data[value : value + min(length, 64)].rstrip(b"\0 ").decode("ascii", "replace")
        at = value + length
    if not found:
        if data[at : at + 1] == b"\0" and data[at + 4 : at + 6] in VRS:
            raise DicomRefused("big-endian DICOM is not taken: it is retired")
        found = EXPLICIT if data[at + 4 : at + 6] in VRS else IMPLICIT
    if found in NOT_TAKEN or not found.startswith(IMPLICIT):
        raise DicomRefused("the transfer syntax is not taken: deflated, big-endian, remote, or not the standard's")
    return found, at


def _explicit(data: bytes, at: int) -> tuple[int, bytes, int, int]:
    """Return (tag, VR, length, place of the value) of an element."""
    group, element = struct.unpack_from("<HH", data, at)
    vr = data[at + 4 : at + 6]
    if vr in LONG:
        return group << 16 | element, vr, struct.unpack_from("<I", data, at + 8)[0], at + 12
    if vr not in VRS:
        raise DicomRefused("an element has no known value representation")
    return group << 16 | element, vr, struct.unpack_from("<H", data, at + 6)[0], at + 8


class _Walk:
    def __init__(self, data: bytes, at: int, *, explicit: bool) -> None:
        self._data, self._at, self._elements = data, at, 0
        self._frames = [_Frame("elements", len(data), explicit)]

    def run(self) -> None:
        while self._frames:
            frame = self._frames[-1]
            if self._at >= frame.end:
                if self._at > frame.end or frame.open_ended:
                    raise DicomRefused("an element reaches beyond what holds it, or its end is missing")
                self._frames.pop()
                continue
            self._elements += 1
            if self._elements > MAX_ELEMENTS:
                raise DicomRefused(f"the DICOM file has more than {MAX_ELEMENTS} elements")
            if frame.kind == "elements":
                self._element(frame)
            else:
                self._item(frame)

    def _element(self, frame: _Frame) -> None:
        tag = self._tag()
        if tag == _ITEM_END:
            self._close(frame)
            return
        if frame.explicit:
            _, vr, length, value = _explicit(self._data, self._at)
        else:
            length, value = struct.unpack_from("<I", self._data, self._at + 4)[0], self._at + 8
            vr = _known_vr(tag)
        self._at = value
        if vr == b"SQ" or (vr == b"UN" and length == UNDEFINED and tag != _PIXELS):
            self._push("items", length, frame, explicit=frame.explicit and vr != b"UN")
        elif length == UNDEFINED:
            if tag != _PIXELS:
                raise DicomRefused("an element that is no sequence has no length")
            self._push("fragments", length, frame, explicit=frame.explicit)
        else:
            self._skip(length, frame)

    def _item(self, frame: _Frame) -> None:
        tag, length = self._tag(), struct.unpack_from("<I", self._data, self._at + 4)[0]
        if tag == _SEQUENCE_END:
            self._close(frame)
            return
        if tag != _ITEM:
            raise DicomRefused("a sequence holds something that is no item")
        self._at += 8
        if frame.kind == "items":
            self._push("elements", length, frame, explicit=frame.explicit)
        elif length == UNDEFINED:
            raise DicomRefused("a fragment of pixel data has no length")
        else:
            self._skip(length, frame)

    def _push(self, kind: str, length: int, inside: _Frame, *, explicit: bool) -> None:
        if len(self._frames) > 2 * MAX_DEPTH:
            raise DicomRefused(f"sequences are nested deeper than {MAX_DEPTH}")
        end = inside.end if length == UNDEFINED else self._at + length
        if end > inside.end:
            raise DicomRefused("an element reaches beyond what holds it")
        self._frames.append(_Frame(kind, end, explicit, open_ended=length == UNDEFINED))

    def _skip(self, length: int, frame: _Frame) -> None:
        self._at += length
        if self._at > frame.end:
            raise DicomRefused("an element reaches beyond what holds it: the file is cut short, or lies")

    def _close(self, frame: _Frame) -> None:
        if not frame.open_ended:
            raise DicomRefused("something ends that has a length")
        self._at += 8
        self._frames.pop()

    def _tag(self) -> int:
        group, element = struct.unpack_from("<HH", self._data, self._at)
        return int(group << 16 | element)


def _known_vr(tag: int) -> bytes:
    """Return the dictionary's value representation; what is unknown is no sequence."""
    try:
        return dictionary_VR(tag).encode()[:2]
    except KeyError:
        return b"??"
