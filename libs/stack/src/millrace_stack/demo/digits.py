"""The demo's data: the 1,797 handwritten digit scans that scikit-learn ships, and what happens to them later.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (the test
part): 8x8 scans with 17 grey levels. They are written as 8-bit PNG, 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

TRAIN, HOLDOUT, TRAFFIC = 1_000, 400, 397
SPLIT_SEED = 20_261_125

Scans = NDArray[np.uint8]
"""Grey-scale scans, shape (n, 8, 8), 0 to 255."""


@dataclass(frozen=True)
class Part:
    """Scans and their true digits, shape (n, 8, 8) and (n,)."""

    scans: Scans
    digits: NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The three disjoint parts of the data."""

    train: Part
    holdout: Part
    traffic: Part


def split() -> Split:
    """Return the fixed split: 1,000 to train on, 400 held out, 397 that arrive as traffic."""
    bunch = load_digits()
    scans = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(scans))
    ends = np.cumsum([TRAIN, HOLDOUT, TRAFFIC])
    parts = [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    train, holdout, traffic = (Part(scans[part], bunch.target[part]) for part in parts)
    return Split(train, holdout, traffic)


def write(part: Part, folder: Path) -> None:
    """Write a part as PNG files into one folder per digit: `<folder>/<digit>/<number>.png`."""
    for number, (scan, digit) in enumerate(zip(part.scans, part.digits, strict=True)):
        path = folder / str(digit) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scan).save(path)


def shifted(part: Part, seed: int) -> Part:
    """Return the scans as a changed world delivers them: rotated by 30°, inverted, with noise of 0.1 of the range.

    The noise is Gaussian, drawn from `seed`; the digits stay what they are.
    """
    rotated = ndimage.rotate(part.scans.astype(np.float64), 30, axes=(2, 1), reshape=False, order=1, mode="constant")
    noise = np.random.default_rng(seed).normal(0, 0.1 * 255, rotated.shape)
    return Part(np.clip(np.round(255 - rotated + noise), 0, 255).astype(np.uint8), part.digits)
