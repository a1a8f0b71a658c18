"""From the model's float inputs back to 8-bit pixels that people can look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 4_096


def is_picture(shape: tuple[int, ...]) -> bool:
    """Return whether one row of this shape is a grey (H, W), (H, W, 1) or colour (H, W, 3) image."""
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        return False
    return all(1 <= side <= MAX_SIDE for side in shape[:2])


def pixels(row: NDArray[np.float32], scale: float = 255.0) -> NDArray[np.uint8]:
    """Return one row as 8-bit levels, (H, W) or (H, W, 3): exact for inputs that were 8-bit levels over `scale`."""
    levels = np.clip(np.rint(np.nan_to_num(row.astype(np.float64), posinf=1e30, neginf=-1e30) * scale), 0, 255).astype(
        np.uint8
    )
    return levels[:, :, 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
