"""A few rows of a window that people could look at: half of them random, half those the model was least sure of.

Which rows are random is decided by a hash of the prediction id, so that adding panes in any order, or one row again,
gives the same choice. Pools are "the lowest k of a total order", which makes joining them associative.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

MAX_EXEMPLARS = 64
RANDOM_SHARE = MAX_EXEMPLARS // 2


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One row: `margin` is the distance of its two highest scores, `digest` names its picture."""

    prediction: str
    digest: str
    margin: float
    predicted: int
    png: bytes | None = None
    """The picture itself until it is an object of its own."""

    @property
    def lot(self) -> str:
        """Return the row's place in the random order."""
        return lot(self.prediction)


def lot(prediction: str) -> str:
    """Return the place of a prediction in the random order: a hash that producers cannot aim at."""
    return blake2b(prediction.encode(), digest_size=16, person=b"millrace-lot").hexdigest()


@dataclass(frozen=True, slots=True)
class Pools:
    """The lowest lots and the lowest margins seen so far."""

    random: tuple[Exemplar, ...] = ()
    margin: tuple[Exemplar, ...] = ()

    def merged(self, other: Pools) -> Pools:
        """Return the pools of both together."""
        return Pools(
            _lowest(RANDOM_SHARE, (*self.random, *other.random), by_lot=True),
            _lowest(MAX_EXEMPLARS, (*self.margin, *other.margin), by_lot=False),
        )

    @property
    def held_bytes(self) -> int:
        """Return the size of the pictures that are still held here."""
        held = {one.prediction: len(one.png or b"") for one in (*self.random, *self.margin)}
        return sum(held.values())

    def released(self) -> Pools:
        """Return the pools without the pictures themselves."""
        return Pools(
            tuple(replace(one, png=None) for one in self.random), tuple(replace(one, png=None) for one in self.margin)
        )

    def chosen(self) -> tuple[tuple[Exemplar, ...], tuple[Exemplar, ...]]:
        """Return the random exemplars, and the least sure ones among the rest; together at most 64."""
        taken = {exemplar.prediction for exemplar in self.random}
        rest = [exemplar for exemplar in self.margin if exemplar.prediction not in taken]
        return self.random, tuple(rest[: MAX_EXEMPLARS - RANDOM_SHARE])


def _lowest(limit: int, exemplars: Iterable[Exemplar], *, by_lot: bool) -> tuple[Exemplar, ...]:
    unique = {exemplar.prediction: exemplar for exemplar in exemplars}
    if by_lot:
        return tuple(heapq.nsmallest(limit, unique.values(), key=lambda one: (one.lot, one.prediction)))
    return tuple(heapq.nsmallest(limit, unique.values(), key=lambda one: (one.margin, one.prediction)))


def margins(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance of the two highest scores of each row; 0 where a score is not finite or stands alone."""
    if scores.shape[1] < 2:
        return np.zeros(len(scores))
    two = np.partition(np.asarray(scores, dtype=np.float64), -2, axis=1)[:, -2:]
    return np.nan_to_num(two[:, 1] - two[:, 0], nan=0.0, posinf=0.0, neginf=0.0)


def candidates(predictions: list[str], row_margins: NDArray[np.float64], pools: Pools) -> list[int]:
    """Return which rows of a batch would enter the pools, so that only those need a picture."""
    rows = range(len(predictions))
    lots = [lot(prediction) for prediction in predictions]
    by_lot = heapq.nsmallest(RANDOM_SHARE, rows, key=lambda row: (lots[row], predictions[row]))
    by_margin = heapq.nsmallest(MAX_EXEMPLARS, rows, key=lambda row: (row_margins[row], predictions[row]))
    if len(pools.random) == RANDOM_SHARE:
        worst = (pools.random[-1].lot, pools.random[-1].prediction)
        by_lot = [row for row in by_lot if (lots[row], predictions[row]) < worst]
    if len(pools.margin) == MAX_EXEMPLARS:
        last = (pools.margin[-1].margin, pools.margin[-1].prediction)
        by_margin = [row for row in by_margin if (row_margins[row], predictions[row]) < last]
    return sorted({*by_lot, *by_margin})
