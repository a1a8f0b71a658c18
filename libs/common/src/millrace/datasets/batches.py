"""An epoch of a version, batch by batch, that can be left and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from millrace.datasets.sample_order import Position
from millrace.errors import Invalid

if TYPE_CHECKING:
    from millrace.datasets.readers import Dataset


class Batches:
    """Iterates over an epoch from a position on; see `Dataset.batches`."""

    def __init__(
        self,
        dataset: Dataset,
        size: int,
        at: Position,
        window: int | None,
        shard: tuple[int, int],
        *,
        turn: tuple[int, int],
    ) -> None:
        if size < 1:
            raise Invalid("a batch has at least one sample")
        if not 0 <= at.position <= len(dataset):
            raise Invalid(f"position {at.position} lies outside of an epoch of {len(dataset)} samples")
        self.position = at
        self._dataset, self._size = dataset, size
        part, parts = check_shard(shard)
        order = np.arange(len(dataset)) if at.seed is None else dataset.order(at.seed, at.epoch, window=window)
        first = at.position + (part - at.position) % parts
        self._places = np.arange(first, len(dataset), parts)
        self._rows = order[self._places]
        mine, turns = check_shard(turn)
        self._next, self._skip = mine * size, (turns - 1) * size

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[Sequence[int], list[bytes]]:
        rows = self._rows[self._next : self._next + self._size].tolist()
        if not rows:
            raise StopIteration
        self._dataset.expect(self._rows[self._next :])
        last = self._next + len(rows) - 1
        self._next = last + 1 + self._skip
        contents = self._dataset.read_many(rows)
        reached = int(self._places[last]) + 1
        self.position = Position(self.position.seed, self.position.epoch, reached)
        return rows, contents

    def __len__(self) -> int:
        """Return the number of batches that are left."""
        left = max(0, len(self._rows) - self._next)
        step = self._size + self._skip
        return (left + step - 1) // step


def check_shard(shard: tuple[int, int]) -> tuple[int, int]:
    """Return `shard` if it is (i, n) with 0 <= i < n.

    Raises:
        Invalid: it is not.
    """
    part, parts = shard
    if not 0 <= part < parts:
        raise Invalid("a shard is (i, n) with 0 <= i < n")
    return shard
