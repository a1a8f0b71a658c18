"""One run from the cached tree to the package and the drift reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from millrace.errors import Corrupt
from millrace.events.envelope import canonical_json
from millrace.reference import Reference
from millrace_components import reference
from millrace_components.classifier import checkpoints, export, fitting, network
from millrace_components.classifier.images import Data, Rows, read
from millrace_components.classifier.params import Params
from millrace_components.classifier.place import Interrupted, Place
from millrace_components.reporting import Facts, Reporter, say

MODEL_FOLDER, CHECKPOINTS, REFERENCE = "model", "checkpoints", "reference.json"


def run(
    root: Path,
    directory: Path,
    params: Params,
    *,
    facts: Facts,
    report: Reporter,
    checkpoint: Path | None,
    stop: Callable[[], bool],
) -> None:
    """Train on the tree below `root`, from `checkpoint` on if given; leave package and reference in `directory`.

    Raises:
        Invalid: the tree cannot be used.
        Interrupted: `stop()` said so; a checkpoint of that very place is written and reported.
    """
    data = read(root, params)
    say(f"{len(data.train)} training rows, {len(data.recent)} of the newest incident, {len(data.holdout)} held out")
    network.make_deterministic()
    report.stage(200, f"training on {len(data.train) + len(data.recent)} rows")
    model = _train(data, params, directory, report=report, checkpoint=checkpoint, stop=stop)
    report.stage(201, "trained")
    report.stage(300, "evaluation")
    metrics = _evaluate(model, data, params, directory, facts)
    report.stage(301, "evaluated")
    say(" ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    report.model(directory / MODEL_FOLDER, metrics)
    report.result(metrics)


def fingerprint(data: Data, params: Params) -> str:
    """Return what a checkpoint must have been made from to be continued."""
    facts = {"params": params.model_dump(), "data": data.digest, "classes": list(data.classes)}
    return blake3(canonical_json(facts)).hexdigest()


def _train(
    data: Data,
    params: Params,
    directory: Path,
    *,
    report: Reporter,
    checkpoint: Path | None,
    stop: Callable[[], bool],
) -> Any:
    mark = fingerprint(data, params)
    model, place = _start(data, params, checkpoint, mark)
    answer = network.answering(model)
    try:
        for epoch in fitting.fit(model, data.train, data.recent, params, place=place, stop=stop):
            loss, accuracy = network.scores(network.predict(answer, data.holdout.images), data.holdout.labels)
            values = {
                "loss": epoch.loss,
                "accuracy": epoch.accuracy,
                "val_loss": loss,
                "val_accuracy": accuracy,
                "learning_rate": epoch.learning_rate,
            }
            say(
                f"epoch {epoch.number}/{params.epochs} "
                + " ".join(f"{key} {value:.4g}" for key, value in values.items())
            )
            if epoch.number % params.checkpoint_every == 0 or epoch.number == params.epochs:
                path = checkpoints.save(directory / CHECKPOINTS, model, Place(epoch=epoch.number), mark)
                report.save_checkpoint(epoch.number, path)
            report.metric(epoch.number, values)
    except Interrupted as stopped:
        path = checkpoints.save(directory / CHECKPOINTS, model, stopped.place, mark)
        report.save_checkpoint(stopped.place.epoch, path)
        raise
    return model


def _start(data: Data, params: Params, checkpoint: Path | None, mark: str) -> tuple[Any, Place]:
    if checkpoint is not None:
        try:
            model, place = checkpoints.load(checkpoint, mark)
        except Corrupt as error:
            say(f"starting from the beginning: {error.message}")
        else:
            say(f"resumed after epoch {place.epoch}, batch {place.batches}")
            return model, place
    rows = len(data.train) + len(data.recent)
    return fitting.new_model(data.shape, len(data.classes), rows, params), Place()


def _evaluate(model: Any, data: Data, params: Params, directory: Path, facts: Facts) -> dict[str, float]:
    holdout = data.holdout
    probabilities = network.predict(network.answering(model), holdout.images)
    loss, accuracy = network.scores(probabilities, holdout.labels)
    made = _reference(data, params, probabilities, facts)
    (directory / REFERENCE).write_bytes(made.to_bytes())
    difference = export.export(
        model,
        directory / MODEL_FOLDER,
        rows=holdout.images[:256],
        classes=data.classes,
        facts={"dataset": facts.dataset, "commit": facts.commit, "run": facts.run},
    )
    return {
        "accuracy": accuracy,
        "loss": loss,
        "reference_accuracy": made.predictions.accuracy,
        "parity_error": difference,
    }


def _reference(data: Data, params: Params, held_out: NDArray[np.float32], facts: Facts) -> Reference:
    enough = len(data.recent) >= 2 * params.siblings
    rows = data.recent if enough else data.holdout
    return reference.build(
        inputs=rows.images,
        outputs=cross_fitted(data, params) if enough else held_out,
        labels=rows.labels,
        training_inputs=data.train.images,
        classes=data.classes,
        basis="cross-fitted" if enough else "held-out",
        incident=data.incident if enough else None,
        dataset=facts.dataset,
        commit=facts.commit,
        run=facts.run,
    )


def cross_fitted(data: Data, params: Params) -> NDArray[np.float32]:
    """Return an answer for each of the newest incident's rows, by a model trained as ours but without that row."""
    answers = np.zeros((len(data.recent), len(data.classes)), dtype=np.float32)
    folds = np.random.default_rng(params.seed).permutation(len(data.recent)) % params.siblings
    for fold in range(params.siblings):
        say(f"sibling {fold + 1}/{params.siblings} for the reference")
        kept = data.recent.take(folds != fold)
        model = fitting.new_model(data.shape, len(data.classes), len(data.train) + len(kept), params)
        for _ in fitting.fit(model, data.train, kept, params, place=Place(), stop=lambda: False):
            pass
        left_out: Rows = data.recent.take(folds == fold)
        answers[folds == fold] = network.predict(network.answering(model), left_out.images)
    return answers
