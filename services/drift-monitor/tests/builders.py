"""Small builders that the unit tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from blake3 import blake3

from drift_monitor.domain.baseline import Baseline, baseline
from drift_monitor.domain.evaluation import Finding, Verdict
from drift_monitor.domain.watch import Watch
from millrace.inference import BatchHeader, InferenceBatch
from millrace.reference import (
    CONFIDENCE,
    ERROR,
    Bounds,
    Predictions,
    Reference,
    confidence,
    fit_basis,
    histogram,
    predicted,
    summarise,
)

CLASSES = ("cat", "dog", "owl")
COMMIT = "c" * 64
DIGEST = "d" * 64


def images(rng: np.random.Generator, rows: int, *, level: float = 0.4) -> np.ndarray:
    values = np.clip(rng.normal(level, 0.15, (rows, 8, 8, 1)), 0, 1)
    return (np.rint(values * 255) / 255).astype(np.float32)


def answers(inputs: np.ndarray) -> np.ndarray:
    """A model of three classes that looks at the brightness of three stripes."""
    stripes = np.stack(
        [inputs[:, :, 0:3].mean((1, 2, 3)), inputs[:, :, 3:5].mean((1, 2, 3)), inputs[:, :, 5:].mean((1, 2, 3))], 1
    )
    scores = np.exp(stripes * 30)
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def reference(inputs: np.ndarray, *, train: np.ndarray | None = None, **changes: Any) -> Reference:
    outputs = answers(inputs)
    basis = fit_basis(inputs if train is None else train)
    error = basis.error(inputs)
    classes = predicted(outputs, 3)
    low, below, above, high = np.quantile(error, (0.005, 0.05, 0.95, 0.995))
    found: dict[str, Any] = {
        "dataset": "pets",
        "commit": COMMIT,
        "run": "01900000-0000-7000-8000-000000000000",
        "record_set": "holdout",
        "rows": len(inputs),
        "shape": (8, 8, 1),
        "features": tuple(histogram(name, values) for name, values in summarise(inputs).items()),
        "basis": basis,
        "error": histogram(ERROR, error),
        "error_bounds": Bounds(q005=low, q05=below, q95=above, q995=high),
        "predictions": Predictions(
            classes=CLASSES,
            counts=tuple(np.bincount(classes, minlength=4).tolist()),
            confidence=histogram(CONFIDENCE, confidence(outputs)),
            accuracy=0.9,
            basis="held-out",
        ),
    }
    return Reference(**{**found, **changes})


def a_baseline(rng: np.random.Generator, rows: int = 200) -> Baseline:
    train, held = images(rng, 400), images(rng, rows)
    made = reference(held, train=train)
    return baseline(f"default/references/{blake3(made.to_bytes()).hexdigest()}", made)


def header(**changes: Any) -> BatchHeader:
    found: dict[str, Any] = {
        "worker": "serving-0",
        "boot": "boot-a",
        "seq0": 0,
        "project": "default",
        "deployment": "pets",
        "revision": 1,
        "model": "pets",
        "version": 1,
        "digest": DIGEST,
        "route_epoch": 1,
        "dataset": "pets",
        "commit": COMMIT,
        "sampling": 1.0,
    }
    return BatchHeader(**{**found, **changes})


def batch(inputs: np.ndarray, *, first: int = 0, at: int = 1_700_000_000_000_000, **changes: Any) -> InferenceBatch:
    rows = len(inputs)
    head = header(**{"seq0": first, **changes})
    return InferenceBatch(
        header=head,
        prediction_ids=[f"{head.boot}.{first + row}" for row in range(rows)],
        at=(np.arange(rows) + at + first).astype("datetime64[us]"),
        latency_us=np.full(rows, 900, dtype=np.int64),
        inputs=inputs,
        outputs=answers(inputs),
    )


def a_watch(**changes: Any) -> Watch:
    found: dict[str, Any] = {
        "project": "default",
        "deployment": "pets",
        "deployment_revision": 1,
        "model": "pets",
        "version": 1,
        "digest": DIGEST,
        "dataset": "pets",
        "commit": COMMIT,
        "reference": "default/references/x",
    }
    return Watch(**{**found, **changes})


FINDING = Finding("brightness", "ks", 0.5, 1e-9, 0.5, 1e-8)
ALERT = Verdict("alert", 1e-5, (FINDING,))
QUIET = Verdict("quiet", 1e-5)
WARNING = Verdict("warning", 1e-5, (FINDING,))
SCANT = Verdict("insufficient", 1e-5)
