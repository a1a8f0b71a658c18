"""The order in which samples are read: made by a seed alone, whatever the number of readers or library versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3

from millrace.errors import Invalid


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader stands: keep it in a checkpoint and go on from there.

    `position` counts the samples of the epoch over all shards, so that it stays right when their number changes.
    """

    seed: int | None = None
    epoch: int = 0
    position: int = 0


def permutation(files: int, seed: int, epoch: int) -> Any:
    """Return a permutation of `files` positions: each is sorted by a 64-bit key from BLAKE3 of seed and epoch."""
    return np.argsort(_keys(f"millrace-order/1:{int(seed)}:{int(epoch)}", files), kind="stable")


def windowed(groups: Any, seed: int, epoch: int, window: int) -> Any:
    """Return a permutation that mixes files only with those of nearby groups.

    `groups` gives each file's pack. Packs are shuffled, and `window` of them at a time have their files shuffled
    together: whoever reads in this order keeps that many packs at hand, and each is fetched once.

    Raises:
        Invalid: the window is not positive.
    """
    if window < 1:
        raise Invalid("a shuffle window is at least one pack")
    names, places = np.unique(groups, return_inverse=True)
    ranks = np.empty(len(names), dtype=np.int64)
    ranks[permutation(len(names), seed, epoch)] = np.arange(len(names))
    within = _keys(f"millrace-window/1:{int(seed)}:{int(epoch)}", len(groups))
    return np.lexsort((within, ranks[places] // window))


def _keys(context: str, count: int) -> Any:
    stream = blake3(context.encode()).digest(8 * count) if count else b""
    return np.frombuffer(stream, dtype="<u8")
