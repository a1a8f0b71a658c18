"""Binomial weights without overflow, from a table of logarithms of factorials."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def log_factorials(largest: int) -> NDArray[np.float64]:
    """Return `log(0!) … log(largest!)`."""
    table = np.zeros(largest + 1, dtype=np.float64)
    np.cumsum(np.log(np.arange(1, largest + 1, dtype=np.float64)), out=table[1:])
    return table


def binomial_weights(trials: int, share: float, table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the binomial probabilities of 0 to `trials` successes at `share`, which lies strictly within 0..1."""
    successes = np.arange(trials + 1)
    logs = table[trials] - table[successes] - table[trials - successes]
    logs += successes * math.log(share) + (trials - successes) * math.log1p(-share)
    weights: NDArray[np.float64] = np.exp(logs)
    return weights
