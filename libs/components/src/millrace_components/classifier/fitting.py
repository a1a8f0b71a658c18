"""The training loop: epoch by epoch, batch by batch, stoppable and resumable at every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from millrace_components.classifier import network
from millrace_components.classifier.batches import epoch_rows
from millrace_components.classifier.images import Rows
from millrace_components.classifier.params import Params
from millrace_components.classifier.place import Interrupted, Place


@dataclass(frozen=True)
class Epoch:
    """What one epoch (from 1) brought, measured on its own augmented batches."""

    number: int
    loss: float
    accuracy: float
    learning_rate: float


def batches(rows: int, params: Params) -> int:
    """Return the number of batches of an epoch."""
    return math.ceil(rows / params.batch_size)


def new_model(shape: tuple[int, int, int], classes: int, rows: int, params: Params) -> Any:
    """Return an untrained model for `rows` training rows."""
    return network.build(shape, classes, params, steps=params.epochs * batches(rows, params))


def fit(
    model: Any, train: Rows, recent: Rows, params: Params, *, place: Place, stop: Callable[[], bool]
) -> Iterator[Epoch]:
    """Train from `place` to the end; yield after each epoch, with the model as it is then.

    Raises:
        Interrupted: `stop()` said so after a batch.
    """
    step = network.training_step(model)
    while place.epoch < params.epochs:
        images, labels = epoch_rows(train, recent, params, place.epoch)
        for batch in range(place.batches, batches(len(labels), params)):
            rows = slice(batch * params.batch_size, (batch + 1) * params.batch_size)
            loss, right = step(images[rows], labels[rows])
            place = replace(
                place,
                batches=batch + 1,
                loss_sum=place.loss_sum + float(loss),
                right=place.right + int(right),
            )
            if stop():
                raise Interrupted(place)
        rate = float(model.optimizer.learning_rate)
        yield Epoch(place.epoch + 1, place.loss_sum / len(labels), place.right / len(labels), rate)
        place = Place(epoch=place.epoch + 1)
