"""Which of the gathered samples people are asked about: half at random, half where the model is least sure.

The random half becomes the reference of the model that is trained next, so it must not depend on anything but chance:
it is chosen first, in the order of the lots. No picture is asked for twice, and none that the model was trained or
evaluated on.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from drift_monitor.domain.exemplars import Exemplar, lot

RANDOM = "random"
MARGIN = "margin"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exemplar of an alerting window; `kind` says by which pool it came."""

    prediction: str
    digest: str
    margin: float
    predicted: int
    kind: str
    window: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What would be asked."""

    random: tuple[Candidate, ...]
    margin: tuple[Candidate, ...]

    @property
    def items(self) -> tuple[Candidate, ...]:
        """Return both halves, in an order that tells an annotator nothing about the half."""
        return tuple(sorted((*self.random, *self.margin), key=lambda one: lot(one.digest)))

    def full(self, size: int) -> bool:
        """Return whether both halves of `size` are filled."""
        return len(self.random) >= size // 2 and len(self.margin) >= size // 2


def gathered(window: int, exemplars: tuple[tuple[Exemplar, ...], tuple[Exemplar, ...]]) -> tuple[Candidate, ...]:
    """Return the candidates that a window contributes."""
    return tuple(
        Candidate(one.prediction, one.digest, one.margin, one.predicted, kind, window)
        for kind, pool in zip((RANDOM, MARGIN), exemplars, strict=True)
        for one in pool
    )


def select(candidates: Iterable[Candidate], *, excluded: AbstractSet[str], size: int, opened: int) -> Selection:
    """Return at most `size` candidates, distinct by picture and by prediction.

    `opened` is the window that opened the incident: it may hold rows from before the change, so later windows are
    preferred.
    """
    known = [one for one in candidates if one.digest not in excluded]
    by_lot = sorted(known, key=lambda one: (one.window <= opened, lot(one.prediction), one.prediction))
    random = _distinct((one for one in by_lot if one.kind == RANDOM), size // 2, ())
    by_margin = sorted(known, key=lambda one: (one.window <= opened, one.margin, one.prediction))
    margin = _distinct(by_margin, size // 2, random)
    return Selection(random, tuple(_as_margin(one) for one in margin))


def _distinct(ordered: Iterable[Candidate], limit: int, taken: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    digests, predictions = {one.digest for one in taken}, {one.prediction for one in taken}
    chosen: list[Candidate] = []
    for one in ordered:
        if len(chosen) == limit:
            break
        if one.digest not in digests and one.prediction not in predictions:
            digests.add(one.digest)
            predictions.add(one.prediction)
            chosen.append(one)
    return tuple(chosen)


def _as_margin(one: Candidate) -> Candidate:
    return Candidate(one.prediction, one.digest, one.margin, one.predicted, MARGIN, one.window)
