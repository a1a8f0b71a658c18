"""What a test says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`p_value` is the chance of a difference at least this large without drift; `effect` its size, in 0..1."""

    statistic: float
    p_value: float
    effect: float


NOTHING = Outcome(0.0, 1.0, 0.0)
"""The outcome where one side has no rows: nothing can be said."""

SCREEN = 0.2
"""Limit p-value above which no exact one is computed: it could not matter at any level that is used."""
