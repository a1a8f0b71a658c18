"""Recognising DICOM by its first bytes, with the preamble or without: it never passes as a plain file."""

from __future__ import annotations

import struct

from pydicom.datadict import dictionary_has_tag

HEAD = 132
"""Bytes that hold the preamble and the mark."""

ELEMENTS = 4
"""Elements that are looked at where there is no preamble."""

VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Value representations whose length has four bytes, after two that are reserved."""


def has_preamble(head: bytes) -> bool:
    """Return whether a file says that it is DICOM."""
    return head[128:HEAD] == b"DICM"


def recognise(head: bytes) -> bool:
    """Return whether a file is, or looks like, DICOM."""
    return has_preamble(head) or _elements(head, "<") or _elements(head, ">")


def _elements(head: bytes, order: str) -> bool:
    """Return whether the file begins with elements of a data set, as old and exported files without preamble do.

    The first few must be attributes that the standard knows, in rising order: numbers of an array may look like one.
    """
    at, last, known = 0, (0, 0), 0
    for index in range(ELEMENTS):
        found = _element(head, at, order)
        if found is None:
            return known > 0 and at + 12 > len(head)
        group, element, after = found
        if (group, element) <= last or (index == 0 and group not in {0x0002, 0x0008}):
            return False
        if element and not dictionary_has_tag(group << 16 | element):
            return False
        if not element and after - at not in {12, 14}:
            return False
        known += bool(element)
        at, last = after, (group, element)
        if at >= len(head):
            break
    return known > 0


def _element(head: bytes, at: int, order: str) -> tuple[int, int, int] | None:
    """Return (group, element, place after it), or None where no element can be."""
    if at + 8 > len(head):
        return None
    group, element = struct.unpack_from(f"{order}HH", head, at)
    vr = head[at + 4 : at + 6]
    if vr in VRS:
        if vr in LONG:
            return (
                (group, element, at + 12 + struct.unpack_from(f"{order}I", head, at + 8)[0])
                if (at + 12 <= len(head))
                else None
            )
        return group, element, at + 8 + int(struct.unpack_from(f"{order}H", head, at + 6)[0])
    length = struct.unpack_from(f"{order}I", head, at + 4)[0]
    return (group, element, at + 8 + length) if length <= 0x1_0000 and not length % 2 else None
