"""A version's class folders as arrays. Every file is hostile until it is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from millrace.errors import Invalid, TooLarge
from millrace_components.classifier.params import Params

MAX_SIDE = 1_024
MAX_BYTES = 4 * 1024**3
"""Most memory that all decoded rows may take."""


@dataclass(frozen=True)
class Rows:
    """Images as (rows, height, width, channels) float32 in 0..1, with their class indices and paths."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Rows:
        """Return the rows at these places, in this order."""
        places = np.arange(len(self))[rows]
        return Rows(self.images[places], self.labels[places], tuple(self.paths[place] for place in places))


@dataclass(frozen=True)
class Data:
    """What a run learns from and is measured by."""

    classes: tuple[str, ...]
    train: Rows
    recent: Rows
    """The newest incident's random rows; empty where there was none. They are trained on as well."""
    holdout: Rows
    incident: str | None
    digest: str
    """BLAKE3 over all paths and pixels in use."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and channels."""
        height, width, channels = self.holdout.images.shape[1:]
        return int(height), int(width), int(channels)


def read(root: Path, params: Params) -> Data:
    """Read the tree below `root`.

    Raises:
        Invalid: no such folders, a file that is no PNG, images of different sizes, a class without training rows.
    """
    train, holdout = _paths(root, params.train, 1), _paths(root, params.holdout, 1)
    reference = _paths(root, params.reference, 2)
    for prefix, found in ((params.train, train), (params.holdout, holdout)):
        if not found:
            raise Invalid(f"no PNG files in class folders below {prefix}")
    classes = tuple(sorted({_class(path) for path in (*train, *reference)}))
    unseen = sorted({_class(path) for path in holdout} - set(classes))
    if unseen:
        raise Invalid(f"{params.holdout}{unseen[0][:64]}/ has no training rows")
    incident = max((PurePosixPath(path).parts[-3] for path in reference), default=None)
    recent = [path for path in reference if PurePosixPath(path).parts[-3] == incident]
    older = [path for path in reference if PurePosixPath(path).parts[-3] != incident]
    reader = _Reader(root, classes)
    learnt, newest, held_out = (reader.rows(paths) for paths in ([*train, *older], recent, holdout))
    return Data(classes, learnt, newest, held_out, incident, reader.digest.hexdigest())


def _paths(root: Path, prefix: str, folders: int) -> list[str]:
    """Return the PNG files at exactly `folders` folders below the prefix, sorted; links are not followed."""
    pattern = "/".join(["*"] * folders) + "/*"
    found = [
        path
        for path in (root / prefix).glob(pattern)
        if path.suffix.lower() == ".png" and not path.is_symlink() and path.is_file()
    ]
    return sorted(path.relative_to(root).as_posix() for path in found)


def _class(path: str) -> str:
    return PurePosixPath(path).parent.name


class _Reader:
    def __init__(self, root: Path, classes: tuple[str, ...]) -> None:
        self.digest = blake3()
        self._root = root
        self._places = {name: place for place, name in enumerate(classes)}
        self._shape: tuple[int, ...] | None = None
        self._bytes = 0

    def rows(self, paths: Iterable[str]) -> Rows:
        kept = tuple(paths)
        images = [self._image(path) for path in kept]
        stacked = np.stack(images) if images else np.empty((0, *(self._shape or (0, 0, 0))), np.float32)
        labels = np.array([self._places[_class(path)] for path in kept], dtype=np.int64)
        return Rows(stacked, labels, kept)

    def _image(self, path: str) -> NDArray[np.float32]:
        try:
            with Image.open(self._root / path, formats=("PNG",)) as image:
                if max(image.size) > MAX_SIDE:
                    raise TooLarge(f"{path}: larger than {MAX_SIDE} pixels")
                grey = image.mode in {"1", "L", "LA", "I", "I;16"}
                pixels = np.asarray(_eight_bits(image) if grey else image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise Invalid(f"{path}: not a readable PNG ({type(error).__name__})") from None
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if self._shape not in (None, pixels.shape):
            raise Invalid(
                f"{path}: {pixels.shape} differs from the other images' {self._shape} (height, width, channels)"
            )
        self._shape = pixels.shape
        self._bytes += pixels.size * 4
        if self._bytes > MAX_BYTES:
            raise TooLarge(f"the images need more than {MAX_BYTES} bytes of memory")
        self.digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
        self.digest.update(pixels.tobytes())
        return pixels.astype(np.float32) / np.float32(255)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "I;16"}:
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    return image.convert("L")
