"""From a captured batch to a pane: features, histograms, and pictures of the few rows that are kept."""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from drift_monitor.application.ports import Painter
from drift_monitor.domain.baseline import PREDICTION, Baseline
from drift_monitor.domain.checkpoint import Tally
from drift_monitor.domain.exemplars import Exemplar, Pools, candidates, margins
from drift_monitor.domain.pictures import is_picture, pixels
from drift_monitor.domain.window import Pane
from millrace.inference import InferenceBatch
from millrace.reference import count, measure


class Tallier:
    """Counts rows of one batch against one reference."""

    def __init__(self, batch: InferenceBatch, baseline: Baseline, *, painter: Painter) -> None:
        self._batch = batch
        self._baseline = baseline
        self._painter = painter
        self._margins = margins(batch.outputs)

    def after(self, base: int) -> Tally:
        """Return the tally of rows that are numbered from `base` on."""
        return lambda rows, pools: self([base + row for row in rows], pools)

    def __call__(self, rows: list[int], pools: Pools) -> Pane:
        """Return the pane of the given rows; only rows that would enter `pools` get a picture."""
        batch, reference = self._batch, self._baseline.reference
        values, classes = measure(reference, batch.inputs[rows], batch.outputs[rows])
        counts = {
            feature.name: count(values[feature.name], feature.edges)
            for feature in self._baseline.features
            if feature.edges is not None and feature.name in values
        }
        counts[PREDICTION] = np.bincount(classes, minlength=len(self._baseline.classes) + 1).astype(np.int64)
        times = self._batch.at[rows].astype(np.int64)
        return Pane(len(rows), counts, int(times.min()), int(times.max()), self._pools(rows, pools))

    def _pools(self, rows: list[int], pools: Pools) -> Pools:
        if not is_picture(self._batch.inputs.shape[1:]):
            return Pools()
        ids = [self._batch.prediction_ids[row] for row in rows]
        entering = candidates(ids, self._margins[rows], pools)
        exemplars = tuple(self._exemplar(rows[place]) for place in entering)
        return Pools(exemplars, exemplars).merged(Pools())

    def _exemplar(self, row: int) -> Exemplar:
        png = self._painter.paint(pixels(self._batch.inputs[row]))
        outputs = np.nan_to_num(self._batch.outputs[row], nan=-np.inf)
        return Exemplar(
            prediction=self._batch.prediction_ids[row],
            digest=blake3(png).hexdigest(),
            margin=float(self._margins[row]),
            predicted=int(outputs.argmax()),
            png=png,
        )
