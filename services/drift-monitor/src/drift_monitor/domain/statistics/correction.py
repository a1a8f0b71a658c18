"""Many tests in a window, many windows in a month: how one allowance of false alarms covers them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: comparing them with alpha bounds the chance of any error."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True, slots=True)
class AlphaSpending:
    """Spreads `budget` expected false alarms over the windows of a month, however many come.

    The `t`-th window of a month (from 0) gets `alpha(t) = budget * s * W**s / (t + W) ** (1 + s)` with s = 1/2 and `W`
    the number of windows that is planned for: nearly flat up to W, then falling slowly. The sum over all windows is
    at most `budget`, so by the union bound no traffic, however heavy, makes more false alarms than that in the mean.
    """

    budget: float
    planned: int
    cap: float = 0.01
    """No window gets more than this, whatever budget and plan say."""

    def alpha(self, index: int) -> float:
        """Return the level of the window with this index in its month."""
        planned = float(self.planned)
        share = 0.5 * math.sqrt(planned) / math.pow(index + 1 + planned, 1.5)
        return min(self.cap, self.budget * share)
