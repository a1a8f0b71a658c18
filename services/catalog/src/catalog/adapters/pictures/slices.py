"""One frame of a DICOM file as a picture: rescaled, windowed, inverted, in colour, with square pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom import config
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_color_lut, apply_rescale, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ImplicitVRLittleEndian

from catalog.adapters.pictures.painted import MAX_PIXELS, Painted, Unshowable, asked
from catalog.adapters.pictures.shades import extent, spread, windowed

MAX_ASPECT = 20.0
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def show(data: bytes, look: dict[str, Any]) -> Painted:
    """Return one frame of a DICOM file.

    Raises:
        Unshowable: it holds no pixels, more than can be, or pixels in a form that nothing here can decode.
    """
    config.settings.reading_validation_mode = config.IGNORE
    dataset = pydicom.dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
    if not any(name in dataset for name in PIXELS):
        raise Unshowable("the DICOM file holds no picture")
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    if look["frame"] >= frames:
        raise Unshowable(f"it has {frames} frames, counted from 0")
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise Unshowable(f"a frame has more than {MAX_PIXELS} pixels")
    values = _decoded(dataset, look["frame"])
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        return Painted(_square(_coloured(apply_color_lut(values, dataset)), dataset, look["frame"]), frames)
    if values.ndim == 3:
        return Painted(_square(_coloured(values), dataset, look["frame"]), frames)
    return _grey(values, dataset, kind, frames, look)


def _decoded(dataset: Any, frame: int) -> Any:
    if not getattr(dataset, "file_meta", None):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return pixel_array(dataset, index=frame)
    except (NotImplementedError, RuntimeError) as error:
        if syntax.is_compressed:
            raise Unshowable(f"its pixels cannot be decoded ({syntax.name})") from error
        raise


def _grey(values: Any, dataset: Any, kind: str, frames: int, look: dict[str, Any]) -> Painted:
    frame = look["frame"]
    values = _rescaled(values, dataset, frame)
    own, function = _own_window(dataset, frame)
    chosen = asked(look) or own
    if chosen is None and "VOILUTSequence" in dataset:
        looked_up = apply_voi(values.astype(np.int32), dataset)
        shades = windowed(looked_up, *spread(looked_up), "LINEAR_EXACT")
        chosen = spread(values)
    elif chosen is None:
        chosen = spread(values, dataset.get("PixelPaddingValue"))
        shades = windowed(values, *chosen, "LINEAR_EXACT")
    else:
        shades = windowed(values, *chosen, function)
    if kind == "MONOCHROME1" or str(dataset.get("PresentationLUTShape", "")) == "INVERSE":
        shades = 255 - shades
    return Painted(_square(Image.fromarray(shades), dataset, frame), frames, chosen, extent(values))


def _rescaled(values: Any, dataset: Any, frame: int) -> Any:
    """Return values in the file's own units, by the frame's transformation or the file's."""
    per_frame = _of_frame(dataset, frame, "PixelValueTransformationSequence")
    if per_frame is not None:
        slope, intercept = float(per_frame.RescaleSlope), float(per_frame.RescaleIntercept)
        return values.astype(np.float32) * slope + intercept
    if "ModalityLUTSequence" in dataset or "RescaleSlope" in dataset:
        return apply_rescale(values, dataset)
    return values


def _own_window(dataset: Any, frame: int) -> tuple[tuple[float, float] | None, str]:
    """Return the first window that the frame or the file names, and its function."""
    source = _of_frame(dataset, frame, "FrameVOILUTSequence")
    source = dataset if source is None else source
    center, width = _first(source.get("WindowCenter")), _first(source.get("WindowWidth"))
    function = str(source.get("VOILUTFunction") or "LINEAR")
    if center is None or width is None or width <= 0:
        return None, "LINEAR"
    return (center, width), function


def _of_frame(dataset: Any, frame: int, name: str) -> Any:
    """Return what a multi-frame file says of one frame, or of all of them, under a name."""
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for group in groups:
        found = list(group.get(name) or [])
        if found:
            return found[0]
    return None


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value if isinstance(value, str | int | float) else value[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _coloured(values: Any) -> Image.Image:
    """Return colours as 8 bits each."""
    if values.dtype != np.uint8:
        top = max(1, int(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else int(values.max()))
        values = (values.astype(np.float32) * (255.0 / top)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(values[..., :3])


def _square(image: Image.Image, dataset: Any, frame: int) -> Image.Image:
    """Return a picture whose pixels are as high as they are wide."""
    ratio = _ratio(dataset, frame)
    if ratio is None or abs(ratio - 1.0) < 0.01:
        return image
    width, height = image.size
    shape = (width, max(1, round(height * ratio))) if ratio >= 1.0 else (max(1, round(width / ratio)), height)
    if shape[0] * shape[1] > MAX_PIXELS:
        return image
    return image.resize(shape, Image.Resampling.BILINEAR)


def _ratio(dataset: Any, frame: int) -> float | None:
    """Return height over width of a pixel, where the file says so and it can be."""
    measures = _of_frame(dataset, frame, "PixelMeasuresSequence")
    said = [dataset.get(name) for name in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing")]
    if measures is not None:
        said.insert(1, measures.get("PixelSpacing"))
    for value in said:
        try:
            vertical, horizontal = (float(part) for part in value or ())
        except (TypeError, ValueError):
            continue
        if vertical > 0 and horizontal > 0 and 1 / MAX_ASPECT < vertical / horizontal < MAX_ASPECT:
            return vertical / horizontal
    return None
