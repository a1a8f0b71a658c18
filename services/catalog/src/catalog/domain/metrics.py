"""Curves made small enough to draw, without losing their peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Point:
    """One measured value of a run; (run, key, step) names it."""

    key: str
    step: int
    value: float
    at: datetime
    fence: int = 0


@dataclass(frozen=True)
class LogLine:
    """One line that a run wrote; (run, fence, offset) names it."""

    fence: int
    offset: int
    at: datetime
    stream: str
    line: str


def downsample(points: list[Point], limit: int) -> list[Point]:
    """Return at most `limit` points (at least 4): the ends, and the lowest and highest of each equal bucket between."""
    if len(points) <= limit:
        return points
    buckets = max(1, (limit - 2) // 2)
    inner = points[1:-1]
    size = math.ceil(len(inner) / buckets)
    kept = [points[0]]
    for start in range(0, len(inner), size):
        bucket = inner[start : start + size]
        ends = {min(bucket, key=_height), max(bucket, key=_height)}
        kept.extend(sorted(ends, key=lambda point: point.step))
    return [*kept, points[-1]]


def _height(point: Point) -> float:
    return point.value if math.isfinite(point.value) else 0.0
