"""A label queue: the samples of one incident, and what people said about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from drift_monitor.errors import AnswerConflict, AnswerInvalid, SampleNotFound

OPEN, ANSWERED, LANDED = "open", "answered", "landed"
_SAFE_CLASS = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9 ._=+@-]{0,62}$")


@dataclass(frozen=True, slots=True)
class Item:
    """One sample. `label` None with `skipped` means that a person could not tell."""

    prediction: str
    digest: str
    kind: str
    margin: float
    predicted: str
    window: int
    label: str | None = None
    skipped: bool = False
    answered_by: str | None = None

    @property
    def answered(self) -> bool:
        """Return whether a person has looked at it."""
        return self.skipped or self.label is not None


@dataclass(frozen=True, slots=True)
class LabelQueue:
    """Items wait until each is answered; then the labelled ones land as data. `cause` is the last event told."""

    id: str
    project: str
    incident: str
    deployment: str
    deployment_revision: int
    model: str
    version: int
    dataset: str
    commit: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    items_key: str
    state: str = OPEN
    reason: str = "waits for people"
    landed_version: int | None = None
    cause: bytes = b""
    revision: int = 1

    @property
    def answered(self) -> int:
        """Return how many items have an answer."""
        return sum(item.answered for item in self.items)

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to answer."""
        return self.answered == len(self.items)

    def item(self, prediction: str) -> Item:
        """Return the item of a prediction.

        Raises:
            SampleNotFound: the queue has no such item.
        """
        for item in self.items:
            if item.prediction == prediction:
                return item
        raise SampleNotFound(f"queue {self.id} has no item for prediction {prediction[:80]!r}")


def answer(queue: LabelQueue, answers: Mapping[str, str | None], by: str) -> LabelQueue:
    """Return the queue with the answers (prediction → class, None for "cannot tell"); all of them or none.

    An answer that is there already changes nothing. One annotator decides: a second, different answer is refused.

    Raises:
        SampleNotFound: a prediction is not in the queue.
        AnswerInvalid: a label is none of the model's classes.
        AnswerConflict: an item has another answer already.
    """
    for prediction, label in answers.items():
        _check(queue, queue.item(prediction), label)
    items = tuple(_answered(item, answers, by) for item in queue.items)
    if items == queue.items:
        return queue
    told = replace(queue, items=items)
    return replace(told, state=ANSWERED, reason="labels are being written") if told.complete else told


def _check(queue: LabelQueue, item: Item, label: str | None) -> None:
    if label is not None and label not in queue.classes:
        raise AnswerInvalid(f"{label[:80]!r} is none of the classes of model {queue.model}", classes=queue.classes[:50])
    if item.answered and item.label != label:
        raise AnswerConflict(f"prediction {item.prediction} was answered differently", prediction=item.prediction)


def _answered(item: Item, answers: Mapping[str, str | None], by: str) -> Item:
    if item.answered or item.prediction not in answers:
        return item
    label = answers[item.prediction]
    return replace(item, label=label, skipped=label is None, answered_by=by)


def landing_path(queue: LabelQueue, item: Item) -> str:
    """Return where a labelled sample lands, below the queue's landing prefix.

    The random half is kept apart, because it becomes the reference of the next model.

    Raises:
        AnswerInvalid: the class cannot be a folder's name.
    """
    if item.label is None or not _SAFE_CLASS.match(item.label):
        raise AnswerInvalid(f"class {item.label!r} cannot be a folder's name")
    folder = f"reference/{queue.incident}" if item.kind == "random" else "train"
    return f"{folder}/{item.label}/{item.digest}.png"
