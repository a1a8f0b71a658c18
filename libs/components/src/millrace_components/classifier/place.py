"""Where a run stands; free of TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """`epoch` epochs are done, and `batches` batches of the next one, whose losses and right answers sum to these."""

    epoch: int = 0
    batches: int = 0
    loss_sum: float = 0.0
    right: int = 0


class Interrupted(Exception):
    """The run was asked to stop; `place` is where it stands."""

    def __init__(self, place: Place) -> None:
        super().__init__("asked to stop")
        self.place = place
