"""One epoch's rows: their order and their augmentation, both a pure function of (seed, epoch)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from millrace_components.classifier.images import Rows
from millrace_components.classifier.params import Params


def epoch_rows(train: Rows, recent: Rows, params: Params, epoch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the augmented images and the labels of an epoch, in training order.

    An epoch has as many rows as there are. The newest incident's random rows get at least `reference_share` of it,
    repeated evenly: they alone are an unbiased picture of today's inputs, and would drown in the history otherwise.
    """
    random = np.random.default_rng([params.seed, epoch])
    total = len(train) + len(recent)
    share = max(len(recent), round(total * params.reference_share)) if len(recent) else 0
    old = random.permutation(len(train))[: total - share]
    new = np.concatenate(
        [random.permutation(len(recent)) for _ in range(-(-share // max(1, len(recent))))] or [old[:0]]
    )
    order = random.permutation(np.concatenate([old, len(train) + new[:share]]))
    images = np.concatenate([train.images, recent.images])[order] if len(recent) else train.images[order]
    labels = np.concatenate([train.labels, recent.labels])[order]
    return augment(images, params, random), labels


def augment(images: NDArray[np.float32], params: Params, random: np.random.Generator) -> NDArray[np.float32]:
    """Return each image slightly rotated, scaled, moved (bilinear, edges repeated) and roughened."""
    if not (params.rotation or params.translation or params.scaling):
        return _roughened(images, params.noise, random)
    rows, height, width = images.shape[:3]
    down, across = _sources(rows, height, width, params, random)
    top = np.minimum(down.astype(np.int64), max(0, height - 2))
    left = np.minimum(across.astype(np.int64), max(0, width - 2))
    below, beside = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    vertical = (down - top)[..., None].astype(np.float32)
    horizontal = (across - left)[..., None].astype(np.float32)
    image = np.arange(rows)[:, None, None]
    upper = images[image, top, left] * (1 - horizontal) + images[image, top, beside] * horizontal
    lower = images[image, below, left] * (1 - horizontal) + images[image, below, beside] * horizontal
    return _roughened(upper * (1 - vertical) + lower * vertical, params.noise, random)


def _sources(
    rows: int, height: int, width: int, params: Params, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return from where each pixel is taken: (down, across), each (rows, height, width)."""
    angle = np.deg2rad(random.uniform(-params.rotation, params.rotation, (rows, 1, 1)))
    scale = 1 + random.uniform(-params.scaling, params.scaling, (rows, 1, 1))
    move = random.uniform(-params.translation, params.translation, (2, rows, 1, 1))
    middle = (height - 1) / 2, (width - 1) / 2
    y, x = np.meshgrid(np.arange(height) - middle[0], np.arange(width) - middle[1], indexing="ij")
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    down = cosine * y + sine * x + middle[0] + move[0] * height
    across = cosine * x - sine * y + middle[1] + move[1] * width
    return np.clip(down, 0, height - 1), np.clip(across, 0, width - 1)


def _roughened(images: NDArray[np.float32], noise: float, random: np.random.Generator) -> NDArray[np.float32]:
    if noise == 0:
        return images.astype(np.float32)
    strength = random.uniform(0, noise, (len(images), *(1,) * (images.ndim - 1)))
    return (images + random.normal(0, 1, images.shape) * strength).astype(np.float32)
