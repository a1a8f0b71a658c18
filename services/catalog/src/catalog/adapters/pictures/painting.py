"""Making one picture of one file's bytes. Runs in a process that may be killed at any time, and knows nothing else."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from catalog.adapters.pictures import slices
from catalog.adapters.pictures.painted import MAX_PIXELS, Painted, Unshowable, asked
from catalog.adapters.pictures.shades import extent, spread, windowed

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B"})
WITHOUT_PREAMBLE = (b"\x02\x00", b"\x08\x00")
"""How old DICOM files begin: with the group of an element. No picture of another kind begins so."""

THUMBNAIL = 256
"""Pictures up to this size are looked at in passing."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def paint(data: bytes, look: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return facts and the encoded picture of a file.

    Raises:
        Unshowable: no picture can be made of it.
    """
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    is_dicom = data[128:132] == b"DICM" or data[:2] in WITHOUT_PREAMBLE
    painted = slices.show(data, look) if is_dicom else _image(data, look)
    image = painted.image
    image.thumbnail((look["size"], look["size"]), Image.Resampling.LANCZOS)
    encoded, kind = _encoded(image, small=look["size"] <= THUMBNAIL)
    facts = {"media_type": kind, "frames": painted.frames, "window": painted.window, "range": painted.range}
    return facts, encoded


def _image(data: bytes, look: dict[str, Any]) -> Painted:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        frames = int(getattr(image, "n_frames", 1))
        if look["frame"] >= frames:
            raise Unshowable(f"it has {frames} frames, counted from 0")
        if look["frame"]:
            image.seek(look["frame"])
        image.draft("RGB", (look["size"] * 2, look["size"] * 2))
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unshowable(f"it has more than {MAX_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise Unshowable("it is no picture of a known kind") from None
    if image.mode in DEEP:
        return _deep(np.asarray(image), frames, look)
    turned = ImageOps.exif_transpose(image)
    return Painted(_plain(turned), frames)


def _deep(values: Any, frames: int, look: dict[str, Any]) -> Painted:
    """Return a picture with more than 256 shades through a window."""
    window = asked(look) or spread(values)
    return Painted(Image.fromarray(windowed(values, *window, "LINEAR_EXACT")), frames, window, extent(values))


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in {"L", "RGB", "RGBA"}:
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if "transparency" in image.info or image.mode in {"LA", "PA"} else "RGB")


def _encoded(image: Image.Image, *, small: bool) -> tuple[bytes, str]:
    out = io.BytesIO()
    lossy = image.mode == "RGB" or (image.mode == "L" and small)
    if lossy:
        image.save(out, "JPEG", quality=88)
        return out.getvalue(), "image/jpeg"
    image.save(out, "PNG", compress_level=3)
    return out.getvalue(), "image/png"
