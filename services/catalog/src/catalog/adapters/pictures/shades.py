"""From stored values to shades of grey: windows by PS3.3 (C.11.2.1), or percentiles where there is none."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


def windowed(values: Any, center: float, width: float, function: str = "LINEAR") -> Any:
    """Return values between 0 and 255 as a window shows them."""
    x = values.astype(np.float32)
    if function == "SIGMOID":
        shade = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - center) / max(width, 1e-6), -60, 60)))
    elif function == "LINEAR_EXACT":
        shade = (x - center) / max(width, 1e-6) + 0.5
    else:
        low, high = center - 0.5 - (width - 1.0) / 2, center - 0.5 + (width - 1.0) / 2
        shade = np.where(x <= low, 0.0, np.where(x > high, 1.0, (x - low) / max(width - 1.0, 1e-6)))
    return np.rint(np.clip(shade, 0.0, 1.0) * 255.0).astype(np.uint8)


def spread(values: Any, padding: float | None = None) -> tuple[float, float]:
    """Return a window (centre, width) from the 1st to the 99th percentile, without what only fills up."""
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if padding is not None and (seen := known[known != padding]).size:
        known = seen
    if not known.size:
        return 0.0, 1.0
    sample = known.ravel()[:: max(1, known.size // 1_000_000)]
    low, high = (float(value) for value in np.percentile(sample, (1, 99)))
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    return (low + high) / 2.0, max(high - low, 1e-6)


def extent(values: Any) -> tuple[float, float]:
    """Return the smallest and the largest value."""
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
