"""Pictures of files, for people to look at. Who makes them may die of it: files are strangers' bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from catalog.application.files import Files, VersionFile, find_file
from catalog.domain.datasets import Version
from catalog.errors import CannotBeShown

MAX_BYTES = 128 * 1024 * 1024
"""Largest file of which a picture is made."""

PAINTER = 1
"""Rises when equal questions get other pictures than before, so that browsers ask again."""


@dataclass(frozen=True)
class Look:
    """How a file is looked at: which frame, through which window (in the file's own units), how large at most."""

    frame: int = 0
    center: float | None = None
    width: float | None = None
    size: int = 512


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG, and what is known of the file: frames, the window that was used, the range of its values."""

    data: bytes
    media_type: str
    frames: int
    window: tuple[float, float] | None
    range: tuple[float, float] | None


class Painter(Protocol):
    """Makes pictures."""

    async def paint(self, look: Look, size: int, parts: AsyncIterator[bytes]) -> Picture:
        """Return a picture of a file of `size` bytes. Raises CannotBeShown, Exhausted, Unavailable."""


async def find_picture(version: Version, path: str, look: Look, *, files: Files) -> tuple[VersionFile, str]:
    """Return a file that may be shown, and the tag of its picture.

    Raises:
        FileNotInVersion: the version has none of that path.
        CannotBeShown: it is too large.
    """
    found = await find_file(version, path, files=files)
    if found.size > MAX_BYTES:
        raise CannotBeShown(f"the file has {found.size} bytes, and pictures are made of {MAX_BYTES} at most")
    return found, blake3(f"{PAINTER}\n{found.digest}\n{look}".encode()).hexdigest()
