"""Joining near byte ranges into few requests, and cutting the answers apart again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.errors import Invalid

MAX_GAP = 256 * 1024
"""Bytes that may be read in vain between two ranges: cheaper than one more request on any link above 100 Mbit/s."""

MAX_SPAN = 64 * 1024 * 1024
"""Longest request in bytes that joining may make; a single longer range stays as it is."""


@dataclass(frozen=True, slots=True)
class Span:
    """One request: `length` bytes from `start`, serving the ranges with these positions in the caller's list."""

    start: int
    length: int
    members: tuple[int, ...]


def coalesce(ranges: Sequence[tuple[int, int]], *, gap: int = MAX_GAP, longest: int = MAX_SPAN) -> list[Span]:
    """Return the requests that cover `ranges`, (start, length) each; empty ranges need none.

    Raises:
        Invalid: a negative start or length.
    """
    spans: list[Span] = []
    start = end = 0
    members: list[int] = []
    for position in sorted(range(len(ranges)), key=lambda index: ranges[index]):
        first, length = ranges[position]
        if first < 0 or length < 0:
            raise Invalid("a byte range is never negative")
        if not length:
            continue
        if members and first <= end + gap and max(end, first + length) - start <= longest:
            end = max(end, first + length)
        else:
            if members:
                spans.append(Span(start, end - start, tuple(members)))
            start, end, members = first, first + length, []
        members.append(position)
    if members:
        spans.append(Span(start, end - start, tuple(members)))
    return spans


def slices(ranges: Sequence[tuple[int, int]], answers: Sequence[tuple[Span, bytes]]) -> list[bytes]:
    """Return the bytes of every range, cut from the answers to its `coalesce`d requests."""
    found = [b""] * len(ranges)
    for span, data in answers:
        for position in span.members:
            start, length = ranges[position]
            found[position] = data[start - span.start : start - span.start + length]
    return found
