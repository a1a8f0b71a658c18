"""Pictures as PNG files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class PngPainter:
    """`Painter` on Pillow, without any metadata, so that equal pixels give equal bytes."""

    def paint(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return the PNG of 8-bit grey (H, W) or colour (H, W, 3) levels."""
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, format="PNG")
        return out.getvalue()
