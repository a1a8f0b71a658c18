"""The two-sample chi-square test on unordered categories.

Windows are small, and classes may be rare: the chi-square limit does not hold at the levels that a false-alarm
budget asks for. So the permutation distribution is computed exactly, given the pooled counts, over (window rows so
far, statistic so far). The statistic is kept on a grid and always rounded up, so the p-value errs towards quiet.
Where that would cost too much, rare categories are pooled and the limit distribution is taken.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from drift_monitor.domain.statistics.binomial import binomial_weights, log_factorials
from drift_monitor.domain.statistics.outcome import NOTHING, SCREEN, Outcome

GRID = 512
EXACT_UP_TO = 60_000_000
"""Largest (window rows x grid x pooled rows) that is computed exactly; about 60 ms there."""
RARE = 5.0
"""Expected window rows below which a category is pooled before the limit distribution is used."""


def chi_square(window: NDArray[np.int64], reference: NDArray[np.int64], *, screen: float = SCREEN) -> Outcome:
    """Compare two tables of counts over the same categories; the effect is the total variation distance.

    A p-value whose limit lies above `screen` is of no consequence and returned as it is.
    """
    m, n = int(window.sum()), int(reference.sum())
    if m == 0 or n == 0:
        return NOTHING
    effect = float(np.abs(window / m - reference / n).sum() / 2)
    pooled = window + reference
    kept = pooled > 0
    window, pooled = window[kept], pooled[kept]
    if len(pooled) < 2:
        return Outcome(0.0, 1.0, effect)
    statistic = _statistic(window, pooled, m, n)
    plain = chi_square_tail(statistic, len(pooled) - 1)
    if plain > screen:
        return Outcome(statistic, plain, effect)
    if m * GRID * (m + n) <= EXACT_UP_TO:
        return Outcome(statistic, _exact(pooled, m, n, statistic), effect)
    return Outcome(statistic, _limit(window, pooled, m, n), effect)


def _statistic(window: NDArray[np.int64], pooled: NDArray[np.int64], m: int, n: int) -> float:
    expected = pooled * (m / (m + n))
    return float(((window - expected) ** 2 / (expected * (n / (m + n)))).sum())


def _exact(pooled: NDArray[np.int64], m: int, n: int, statistic: float) -> float:
    """Return the chance that the statistic, rounded up to the grid, reaches the observed one."""
    if statistic <= 0:
        return 1.0
    total, share, table = m + n, m / (m + n), log_factorials(m + n)
    state = np.zeros((m + 1, GRID + 1))
    state[0, 0] = 1.0
    for size in pooled.tolist():
        weights = binomial_weights(size, share, table)
        expected = size * share
        steps = (np.arange(size + 1) - expected) ** 2 / (expected * (1 - share)) / statistic * GRID
        state = _deal(state, weights, np.minimum(np.ceil(steps - 1e-9), GRID).astype(int))
    return min(1.0, float(state[m, GRID] / binomial_weights(total, share, table)[m]))


def _deal(state: NDArray[np.float64], weights: NDArray[np.float64], steps: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the state after one more category; the last column gathers whatever reached the observed statistic."""
    rows = len(state)
    dealt = np.zeros_like(state)
    for drawn in range(min(len(weights), rows)):
        source, target, step = state[: rows - drawn], dealt[drawn:], int(steps[drawn])
        target[:, step:] += weights[drawn] * source[:, : GRID + 1 - step]
        if step:
            target[:, GRID] += weights[drawn] * source[:, GRID + 1 - step :].sum(axis=1)
    return dealt


def _limit(window: NDArray[np.int64], pooled: NDArray[np.int64], m: int, n: int) -> float:
    rare = pooled * (min(m, n) / (m + n)) < RARE
    if rare.any():
        window = np.append(window[~rare], window[rare].sum())
        pooled = np.append(pooled[~rare], pooled[rare].sum())
    if len(pooled) < 2:
        return 1.0
    return chi_square_tail(_statistic(window, pooled, m, n), len(pooled) - 1)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Return the upper tail of the chi-square distribution: the regularised upper incomplete gamma function."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        return max(0.0, 1.0 - scale * _series(a, x))
    return min(1.0, scale * _fraction(a, x))


def _series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for step in range(1, 1_000):
        term *= x / (a + step)
        total += term
        if term < total * 1e-15:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """Return Lentz's evaluation of the continued fraction."""
    b = x + 1.0 - a
    c, d = 1e300, 1.0 / b
    value = d
    for step in range(1, 1_000):
        factor = -step * (step - a)
        b += 2.0
        d = 1.0 / (factor * d + b)
        c = b + factor / c
        value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return value
