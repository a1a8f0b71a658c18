"""A picture before it is encoded, and how it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

MAX_PIXELS = 64_000_000


class Unshowable(Exception):
    """No picture can be made; says why without quoting the file."""


@dataclass(frozen=True)
class Painted:
    """A picture before it is encoded, and what is known of the file."""

    image: Image.Image
    frames: int = 1
    window: tuple[float, float] | None = None
    range: tuple[float, float] | None = None


def asked(look: dict[str, Any]) -> tuple[float, float] | None:
    """Return the window that was asked for."""
    return None if look["center"] is None else (float(look["center"]), float(look["width"]))
