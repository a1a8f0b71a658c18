"""The two-sample Kolmogorov-Smirnov test on binned data.

Binned data has ties, for which the textbook's distribution is far too timid at the sizes met here (windows of 100
against references of 75 to 400 rows). Given the pooled counts, without drift every way of dealing the pooled rows
out to the two samples is equally likely; the chance that the largest distance of the two cumulative shares reaches
the observed one is then computed exactly, bin by bin, over the number of window rows so far (Schröer and Trenkler,
1995, in the form of one convolution per bin). Large samples, and differences that are plainly nothing, take the limit
distribution, which ties make conservative.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from drift_monitor.domain.statistics.binomial import binomial_weights, log_factorials
from drift_monitor.domain.statistics.outcome import NOTHING, SCREEN, Outcome

EXACT_UP_TO = 20_000_000
"""Largest (window rows x pooled rows) that is computed exactly; about 30 ms there."""


def kolmogorov_smirnov(
    window: NDArray[np.int64], reference: NDArray[np.int64], *, falls_only: bool = False, screen: float = SCREEN
) -> Outcome:
    """Compare two histograms over the same ordered cells; the effect is the largest distance of cumulative shares.

    With `falls_only` just the distances count by which the window lies lower than the reference. A p-value whose limit
    lies above `screen` is of no consequence and returned as it is.
    """
    m, n = int(window.sum()), int(reference.sum())
    if m == 0 or n == 0:
        return NOTHING
    distances = np.cumsum(window) * n - np.cumsum(reference) * m
    largest = int(distances.max() if falls_only else np.abs(distances).max())
    if largest <= 0:
        return Outcome(0.0, 1.0, 0.0)
    effect = largest / (m * n)
    p_value = _limit(effect * math.sqrt(m * n / (m + n)), falls_only=falls_only)
    if p_value <= screen and m * (m + n) <= EXACT_UP_TO:
        p_value = _exact(window + reference, m, n, largest, falls_only=falls_only)
    return Outcome(effect, min(1.0, p_value), effect)


def _exact(pooled: NDArray[np.int64], m: int, n: int, largest: int, *, falls_only: bool) -> float:
    """Return the exact chance that the distance, times m * n, reaches `largest`, given the pooled counts."""
    total, share = m + n, m / (m + n)
    table = log_factorials(total)
    drawn = np.arange(m + 1, dtype=np.int64)
    below, reached = np.zeros(m + 1), np.zeros(m + 1)
    below[0] = 1.0
    so_far = 0
    for size in pooled[pooled > 0].tolist():
        weights = binomial_weights(size, share, table)
        below = np.convolve(below, weights)[: m + 1]
        reached = np.convolve(reached, weights)[: m + 1]
        so_far += size
        distances = drawn * n - (so_far - drawn) * m
        crossed = (distances if falls_only else np.abs(distances)) >= largest
        reached[crossed] += below[crossed]
        below[crossed] = 0.0
    return float(reached[m] / binomial_weights(total, share, table)[m])


def _limit(scaled: float, *, falls_only: bool = False) -> float:
    """Return the upper tail of the limit distribution: Kolmogorov's, or Smirnov's for one side."""
    if falls_only:
        return math.exp(-2.0 * scaled * scaled)
    if scaled < 0.2:
        return 1.0
    terms = (math.exp(-2.0 * k * k * scaled * scaled) * (1 if k % 2 else -1) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * math.fsum(terms)))
