"""What windows are compared with: the counts that the model's evaluation found on rows it had not been trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from millrace.reference import ERROR, Histogram, Reference

PREDICTION = "prediction"

Counts = NDArray[np.int64]
"""Rows per cell: the only state that windows keep of their rows, because adding counts is merging windows."""

__all__ = ["ERROR", "PREDICTION", "Baseline", "Counts", "Feature"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One watched quantity. `edges` bound its cells; a categorical one has none, its cells are the classes.

    With `falls_only` it may rise without being drift.
    """

    name: str
    counts: Counts
    edges: NDArray[np.float64] | None = None
    falls_only: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference of one model version, named by the key of the object it was read from."""

    key: str
    reference: Reference
    features: tuple[Feature, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the model's classes, in the order of its outputs."""
        return self.reference.predictions.classes


def baseline(key: str, reference: Reference) -> Baseline:
    """Return a reference in the form that windows are counted and tested by.

    Cross-fitted answers come from siblings that never saw the row, and saw fewer rows in all: the model itself is
    rightly surer, the more so where traffic repeats what it was trained on. Then only a fall in confidence counts.
    """
    answers = reference.predictions
    watched = [_numeric(histogram) for histogram in (*reference.features, reference.error)]
    sureness = _numeric(answers.confidence, falls_only=answers.basis == "cross-fitted")
    classes = Feature(PREDICTION, np.array(answers.counts, dtype=np.int64))
    return Baseline(key, reference, (*watched, sureness, classes))


def _numeric(histogram: Histogram, *, falls_only: bool = False) -> Feature:
    counts, edges = np.array(histogram.counts, dtype=np.int64), np.array(histogram.edges, dtype=np.float64)
    return Feature(histogram.name, counts, edges, falls_only)
