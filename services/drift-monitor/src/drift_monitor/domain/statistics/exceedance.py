"""Do more rows lie beyond a bound than the reference says?

The bound is a quantile of the reference itself, so the reference's count beyond it is fixed and the coverage of the
bound is a Beta variable: the number of window rows beyond it follows the beta-binomial law (Wilks, 1942), whatever
the distribution of the values is. Used on both sides of an error: blur lowers it, noise raises it.
"""

from __future__ import annotations

import math

from drift_monitor.domain.statistics.outcome import NOTHING, Outcome


def exceedance(beyond: int, rows: int, reference_beyond: int, reference_rows: int) -> Outcome:
    """Test whether `beyond` of `rows` are too many where the reference has `reference_beyond` of its rows.

    The effect is the excess of the window's share over the reference's, never below 0.
    """
    if rows == 0 or reference_rows == 0:
        return NOTHING
    share, expected = beyond / rows, reference_beyond / reference_rows
    if share <= expected:
        return Outcome(share, 1.0, 0.0)
    rank = max(1, reference_beyond)
    first, second = float(rank), float(reference_rows + 1 - rank)
    tail = math.fsum(math.exp(_log_weight(k, rows, first, second)) for k in range(beyond, rows + 1))
    return Outcome(share, min(1.0, tail), share - expected)


def _log_weight(k: int, rows: int, first: float, second: float) -> float:
    """Return the logarithm of the beta-binomial probability of `k` of `rows`."""
    choose = math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1)
    return choose + _log_beta(k + first, rows - k + second) - _log_beta(first, second)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
