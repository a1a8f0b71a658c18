"""A summary of one column, made batch by batch in bounded memory: counts, range, mean, distinct estimate, histogram.

Texts are never quoted: of them only lengths are kept, since a smallest text may be a person's name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

BINS = 32
SKETCH = 1_024
"""Smallest hashes that are kept: the estimate of distinct values errs by about 3 %, and is exact below this number."""

LARGEST = 1e300

MAX_TEXTS = 20_000
"""Different texts of one batch that go into the sketch."""


class Column:
    """Takes arrays of one column."""

    def __init__(self, name: str, kind: Any) -> None:
        self.name, self.kind = name, kind
        self.numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        self.textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
        self._count = self._nulls = self._finite = 0
        self._low, self._high, self._sum = math.inf, -math.inf, 0.0
        self._histogram = Histogram()
        self._sketch = np.empty(0, dtype=np.uint64)

    def take(self, array: Any) -> None:
        """Add an array's values."""
        self._count += len(array)
        self._nulls += array.null_count
        if pa.types.is_dictionary(array.type):
            self._take_lengths(array.dictionary, weights=array.indices)
            self._distinct_texts(array.dictionary)
        elif self.numeric:
            self._take_numbers(array)
        elif self.textual:
            self._take_lengths(array, weights=None)
            self._distinct_texts(pc.unique(array))

    def _take_numbers(self, array: Any) -> None:
        plain = pc.cast(array.drop_null(), pa.float64(), safe=False)
        values = plain.to_numpy(zero_copy_only=False)
        values = values[np.isfinite(values)]
        if values.size:
            self._range(float(values.min()), float(values.max()))
            self._finite += values.size
            with np.errstate(over="ignore"):
                self._sum += float(values.sum())
            self._histogram.take(values)
            self._merge(_mixed(np.unique(values).view(np.uint64)))

    def _take_lengths(self, texts: Any, *, weights: Any) -> None:
        lengths = pc.binary_length(texts)
        if weights is not None:
            lengths = lengths.take(weights.drop_null()) if len(lengths) else lengths
        values = lengths.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
        if values.size:
            self._range(float(values.min()), float(values.max()))
            self._finite += values.size
            self._sum += float(values.sum())

    def _range(self, low: float, high: float) -> None:
        self._low, self._high = min(self._low, low), max(self._high, high)

    def _distinct_texts(self, texts: Any) -> None:
        found = [blake3(text).digest(8) for text in pc.cast(texts, pa.binary())[:MAX_TEXTS].drop_null().to_pylist()]
        if found:
            self._merge(np.frombuffer(b"".join(found), dtype=np.uint64))

    def _merge(self, hashes: Any) -> None:
        self._sketch = np.unique(np.concatenate([self._sketch, hashes]))[:SKETCH]

    def _distinct(self) -> int:
        if self._sketch.size < SKETCH:
            return int(self._sketch.size)
        return min(self._count, round((SKETCH - 1) / (float(self._sketch[-1]) / 2.0**64)))

    def facts(self, *, histogram: bool = True) -> dict[str, Any]:
        """Return the summary."""
        facts: dict[str, Any] = {
            "name": self.name,
            "type": str(self.kind)[:100],
            "count": self._count,
            "nulls": self._nulls,
        }
        if self.numeric or self.textual:
            facts["distinct"] = self._distinct()
        if self._finite:
            names = ("min", "max", "mean") if self.numeric else ("shortest", "longest", "mean_length")
            mean = self._sum / self._finite
            facts |= dict(zip(names, map(_tidy, (self._low, self._high, mean)), strict=True))
            if histogram and self.numeric:
                facts["histogram"] = self._histogram.facts()
        return {name: value for name, value in facts.items() if value is not None}


class Histogram:
    """Counts in equal bins. A value beyond them doubles the width, so one pass is enough and no count is a guess."""

    def __init__(self) -> None:
        self._start = self._width = 0.0
        self._counts = np.zeros(BINS, dtype=np.int64)

    def take(self, values: Any) -> None:
        """Add finite values; those beyond `LARGEST` are left out, since no bin could hold them and others."""
        values = values[np.abs(values) < LARGEST]
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not self._width:
            self._start, self._width = low, max((high - low) / BINS, abs(low) * 1e-9, 1e-12) * (1 + 1e-9)
        while high >= self._start + BINS * self._width:
            self._fold(0)
        while low < self._start:
            self._start -= BINS * self._width
            self._fold(BINS // 2)
        places = np.clip(((values - self._start) / self._width).astype(np.int64), 0, BINS - 1)
        self._counts += np.bincount(places, minlength=BINS)

    def _fold(self, at: int) -> None:
        """Double the width; what was counted ends in the half that begins at bin `at`."""
        halves = self._counts.reshape(-1, 2).sum(axis=1)
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._counts[at : at + BINS // 2] = halves
        self._width *= 2

    def facts(self) -> dict[str, Any] | None:
        """Return where the bins begin, how wide they are, and the counts; empty bins at the ends are left out."""
        filled = np.flatnonzero(self._counts)
        if not filled.size:
            return None
        first, last = int(filled[0]), int(filled[-1])
        return {
            "start": _tidy(self._start + first * self._width),
            "width": _tidy(self._width),
            "counts": self._counts[first : last + 1].tolist(),
        }


def _mixed(values: Any) -> Any:
    """Return well-spread hashes of 64-bit numbers (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def _tidy(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
