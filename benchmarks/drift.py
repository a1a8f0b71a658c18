"""How often the drift monitor cries wolf, and how soon it sees a wolf: its own statistics, replayed over many seeds.

    python benchmarks/drift.py [--seeds 200] [--classifier logistic|forest] [--json results.json]

Each seed splits the 1,797 digits of scikit-learn anew into training (1000), holdout (400) and traffic (397) and plays
the life of one model: ten clean windows of 100 rows against the 400-row holdout reference; shifted windows (rotated
by 30 degrees, inverted, noise of 0.1) until the alarm; labels for 75 random and 75 low-margin samples of them; a second
model, and ten shifted windows against the 75-row reference made of the random half, its answers cross-fitted and its
reconstruction basis fitted on the other training rows, as the `classifier` component does. All
features, tests, corrections and selections are the product's own (`drift_monitor.domain`, `millrace.reference`).

Variants of the traffic: `fixed` draws each window without replacement from 397 pictures that were shifted once, so
that the windows hold the very pictures that were labelled; `fresh` draws with replacement and shifts each row anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from drift_monitor.domain.baseline import PREDICTION, Baseline, baseline
from drift_monitor.domain.evaluation import Rules, Verdict, decide, examine
from drift_monitor.domain.exemplars import Exemplar, Pools, margins
from drift_monitor.domain.selection import Candidate, Selection, gathered, select
from drift_monitor.domain.statistics import AlphaSpending
from drift_monitor.domain.window import Pane
from millrace.reference import (
    CONFIDENCE,
    ERROR,
    Bounds,
    Predictions,
    Reference,
    confidence,
    count,
    fit_basis,
    histogram,
    measure,
    predicted,
    summarise,
)

Array = NDArray[Any]
ROWS, WINDOWS, QUEUE, FOLDS = 100, 10, 150, 3
SPENDING = AlphaSpending(budget=1.0, planned=43_200)
RULES = Rules()
CLASSES = tuple(str(digit) for digit in range(10))


@dataclass
class Tally:
    """What happened over all seeds of one variant."""

    seeds: int = 0
    clean_windows: int = 0
    clean_alarms: int = 0
    clean_sessions: int = 0
    detected_after: list[int] = field(default_factory=list)
    after_windows: int = 0
    after_alarms: int = 0
    after_sessions: int = 0
    smallest_clean: float = 1.0
    smallest_after: float = 1.0
    random: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    accuracy: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    examined: int = 0


def quantised(images: Array) -> Array:
    """Return images as they come back from 8-bit PNG files."""
    levels: Array = (np.rint(np.clip(images, 0, 1) * 255) / 255).astype(np.float32)
    return levels


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Return images rotated by 30 degrees, inverted, with Gaussian noise of 0.1."""
    turned = rotate(images, 30, axes=(1, 2), reshape=False, order=1)
    return quantised(1 - turned + rng.normal(0, 0.1, images.shape))


def fit(kind: str, images: Array, labels: Array) -> Callable[[Array], Array]:
    """Return a fitted model: images to probabilities of ten classes."""
    model: Any = (
        LogisticRegression(C=1.0, max_iter=60)
        if kind == "logistic"
        else RandomForestClassifier(60, random_state=0, n_jobs=1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(images.reshape(len(images), -1), labels)

    def answer(rows: Array) -> Array:
        scores = np.zeros((len(rows), 10))
        scores[:, model.classes_] = model.predict_proba(rows.reshape(len(rows), -1))
        return scores

    return answer


def reference_of(train: Array, rows: Array, answers: Array, labels: Array, *, crossed: bool) -> Baseline:
    """Return the reference that an evaluation makes of `rows` and the model's `answers` to them."""
    basis = fit_basis(train)
    error = basis.error(rows)
    bounds = Bounds(
        **dict(zip(("q005", "q05", "q95", "q995"), np.quantile(error, (0.005, 0.05, 0.95, 0.995)), strict=True))
    )
    classes = predicted(answers, 10)
    predictions = Predictions(
        classes=CLASSES,
        counts=tuple(np.bincount(classes, minlength=11).tolist()),
        confidence=histogram(CONFIDENCE, confidence(answers)),
        accuracy=float((classes == labels).mean()),
        basis="cross-fitted" if crossed else "held-out",
    )
    return baseline(
        "default/references/simulated",
        Reference(
            dataset="digits",
            commit="0" * 64,
            run="00000000-0000-0000-0000-000000000000",
            record_set="incident" if crossed else "holdout",
            rows=len(rows),
            shape=(8, 8, 1),
            features=tuple(histogram(name, values) for name, values in summarise(rows).items()),
            basis=basis,
            error=histogram(ERROR, error),
            error_bounds=bounds,
            predictions=predictions,
        ),
    )


def pane_of(base: Baseline, rows: Array, answers: Array, names: list[str]) -> Pane:
    """Return the counts of a window, as the service takes them."""
    values, classes = measure(base.reference, rows, answers)
    counts = {one.name: count(values[one.name], one.edges) for one in base.features if one.edges is not None}
    counts[PREDICTION] = np.bincount(classes, minlength=11).astype(np.int64)
    exemplars = tuple(
        Exemplar(f"{name}:{place}", name, float(margin), int(cls))
        for place, (name, margin, cls) in enumerate(zip(names, margins(answers), classes, strict=True))
    )
    return Pane(len(rows), counts, 0, 0, Pools(exemplars, exemplars).merged(Pools()))


class Life:
    """One seed: a model, its traffic, its drift and its successor."""

    def __init__(self, seed: int, kind: str, variant: str, tally: Tally) -> None:
        digits = load_digits()
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(digits.images))
        images, self.labels = quantised(digits.images[order] / 16), digits.target[order]
        self.train, self.holdout, self.traffic = images[:1000], images[1000:1400], images[1400:]
        self.kind, self.variant, self.tally = kind, variant, tally
        self.pool = shifted(self.traffic, self.rng)
        self.index = 0

    def draw(self, *, drifted: bool) -> tuple[Array, list[int]]:
        """Return a window's pictures and which traffic pictures they are."""
        fresh = self.variant == "fresh"
        chosen = self.rng.choice(len(self.traffic), ROWS, replace=fresh)
        if not drifted:
            return self.traffic[chosen], chosen.tolist()
        return (shifted(self.traffic[chosen], self.rng) if fresh else self.pool[chosen]), chosen.tolist()

    def window(
        self, base: Baseline, model: Callable[[Array], Array], *, drifted: bool
    ) -> tuple[Pane, Verdict, Array, list[int]]:
        """Return the next window, examined."""
        rows, chosen = self.draw(drifted=drifted)
        names = [f"{place}-{rows[at].tobytes().hex()[:32]}" for at, place in enumerate(chosen)]
        pane = pane_of(base, rows, model(rows), names)
        started = time.perf_counter()
        findings = examine(pane, base)
        self.tally.seconds += time.perf_counter() - started
        self.tally.examined += 1
        verdict = decide(findings, rows=pane.rows, alpha=SPENDING.alpha(self.index), rules=RULES)
        self.index += 1
        self.smallest = findings[0].adjusted
        return pane, verdict, rows, chosen

    def live(self) -> None:
        """Play all of it."""
        model = fit(self.kind, self.train, self.labels[:1000])
        held = model(self.holdout)
        base = reference_of(self.train, self.holdout, held, self.labels[1000:1400], crossed=False)
        alarms = 0
        for _ in range(WINDOWS):
            alarms += self.window(base, model, drifted=False)[1].alert
            self.tally.smallest_clean = min(self.tally.smallest_clean, self.smallest)
        self.tally.clean_windows += WINDOWS
        self.tally.clean_alarms += alarms
        self.tally.clean_sessions += alarms > 0
        selection, seen = self.gather(base, model)
        self.succeed(model, selection, seen)
        self.tally.seeds += 1

    def gather(self, base: Baseline, model: Callable[[Array], Array]) -> tuple[Selection, dict[str, tuple[Array, int]]]:
        """Return what people are asked once the alarm was given; the pictures and classes by prediction."""
        seen: dict[str, tuple[Array, int]] = {}
        candidates: tuple[Candidate, ...] = ()
        opened, number = None, 0
        while True:
            pane, verdict, rows, chosen = self.window(base, model, drifted=True)
            number += 1
            if opened is None and verdict.alert:
                opened = number
                self.tally.detected_after.append(number)
            if opened is not None:
                candidates += gathered(number, pane.pools.chosen())
                for at, place in enumerate(chosen):
                    name = f"{place}-{rows[at].tobytes().hex()[:32]}:{at}"
                    seen[name] = (rows[at], int(self.labels[1400 + place]))
                later = [one for one in candidates if one.window > opened]
                if select(later, excluded=frozenset(), size=QUEUE, opened=opened).full(QUEUE) or number - opened >= 6:
                    selection = select(candidates, excluded=frozenset(), size=QUEUE, opened=opened)
                    self.tally.random.append(len(selection.random))
                    self.tally.asked.append(number - opened)
                    return selection, seen

    def succeed(
        self, first: Callable[[Array], Array], selection: Selection, seen: dict[str, tuple[Array, int]]
    ) -> None:
        """Train the second model and watch it on shifted traffic."""
        pictures, labels = zip(*(seen[one.prediction] for one in selection.random), strict=True)
        random, random_labels = np.stack(pictures), np.array(labels)
        pictures, labels = zip(*(seen[one.prediction] for one in selection.margin), strict=True)
        base_x = np.concatenate([self.train, np.stack(pictures)])
        base_y = np.concatenate([self.labels[:1000], np.array(labels)])
        second = fit(self.kind, np.concatenate([base_x, random]), np.concatenate([base_y, random_labels]))
        answers = np.zeros((len(random), 10))
        for part in range(FOLDS):
            out = np.arange(len(random)) % FOLDS == part
            sibling = fit(
                self.kind, np.concatenate([base_x, random[~out]]), np.concatenate([base_y, random_labels[~out]])
            )
            answers[out] = sibling(random[out])
        base = reference_of(base_x, random, answers, random_labels, crossed=True)
        alarms = 0
        for _ in range(WINDOWS):
            alarms += self.window(base, second, drifted=True)[1].alert
            self.tally.smallest_after = min(self.tally.smallest_after, self.smallest)
        self.tally.after_windows += WINDOWS
        self.tally.after_alarms += alarms
        self.tally.after_sessions += alarms > 0
        bent = shifted(self.holdout, self.rng)
        for name, model in (("model 1", first), ("model 2", second)):
            share = float((model(bent).argmax(axis=1) == self.labels[1000:1400]).mean())
            self.tally.accuracy.setdefault(name, []).append(share)


def main() -> None:
    """Run, or go on where a results file ends, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to add")
    parser.add_argument("--classifier", choices=("logistic", "forest"), default="logistic")
    parser.add_argument("--json", type=Path, help="results file; what it holds is added to")
    arguments = parser.parse_args()
    document = read(arguments.json, arguments.classifier)
    tallies = {variant: Tally(**document["raw"].get(variant, {})) for variant in ("fixed", "fresh")}
    for variant, tally in tallies.items():
        for seed in range(tally.seeds, tally.seeds + arguments.seeds):
            Life(seed, arguments.classifier, variant, tally).live()
    results = {variant: summary(tally) for variant, tally in tallies.items()}
    table(results, arguments.classifier)
    if arguments.json:
        document["results"] = results
        document["raw"] = {variant: asdict(tally) for variant, tally in tallies.items()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1))


def read(path: Path | None, classifier: str) -> dict[str, Any]:
    """Return the results file, or what a fresh one begins with."""
    if path is not None and path.exists():
        document: dict[str, Any] = json.loads(path.read_text())
        return document
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"classifier": classifier, "machine": machine, "raw": {}}


def summary(tally: Tally) -> dict[str, Any]:
    """Return the figures of one variant."""
    return {
        "seeds": tally.seeds,
        "clean windows": tally.clean_windows,
        "false alarms, clean windows": tally.clean_alarms,
        "sessions of 10 clean windows with an alarm": tally.clean_sessions,
        "smallest adjusted p, clean": tally.smallest_clean,
        "windows to detection, worst": max(tally.detected_after),
        "windows gathered after the first, median": float(np.median(tally.asked)),
        "random half, smallest": min(tally.random),
        "shifted windows after retraining": tally.after_windows,
        "alarms after retraining": tally.after_alarms,
        "sessions of 10 with an alarm after retraining": tally.after_sessions,
        "smallest adjusted p, after retraining": tally.smallest_after,
        "accuracy on shifted holdout, model 1": float(np.mean(tally.accuracy["model 1"])),
        "accuracy on shifted holdout, model 2": float(np.mean(tally.accuracy["model 2"])),
        "milliseconds per window evaluation": 1e3 * tally.seconds / tally.examined,
    }


def table(results: dict[str, dict[str, Any]], classifier: str) -> None:
    """Print one column per variant."""
    print(f"\n{classifier}, alpha of the first window {SPENDING.alpha(0):.2e}")
    print(f"{'':50}" + "".join(f"{variant:>14}" for variant in results))
    for name in next(iter(results.values())):
        cells = (results[variant][name] for variant in results)
        print(f"{name:50}" + "".join(f"{cell:14.3g}" if isinstance(cell, float) else f"{cell:14}" for cell in cells))


if __name__ == "__main__":
    main()
