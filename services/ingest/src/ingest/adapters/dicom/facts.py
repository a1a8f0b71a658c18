"""What a record says of a DICOM object, read from the de-identified data set only."""

from __future__ import annotations

import math
from typing import Any

from pydicom.uid import UID

MAX_STRUCTURES = 400
MAX_REFERENCES = 200

_TYPES = {
    "1.2.840.10008.5.1.4.1.1.481.2": "RT Dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set",
    "1.2.840.10008.5.1.4.1.1.481.5": "RT Plan",
    "1.2.840.10008.5.1.4.1.1.481.8": "RT Plan",
}


def type_of(dataset: Any) -> str:
    """Return the type of an object's record."""
    sop_class = str(dataset.get("SOPClassUID") or "")
    if sop_class in _TYPES:
        return _TYPES[sop_class]
    name = UID(sop_class).name
    for kind in ("CT", "MR"):
        if f"{kind} Image Storage" in name:
            return f"{kind} Slice"
    return "DICOM Slice"


def facts_of(dataset: Any) -> dict[str, Any]:
    """Return an object's metadata, without what it does not say."""
    facts: dict[str, Any] = {
        "modality": _text(dataset, "Modality"),
        "sop_class": UID(str(dataset.get("SOPClassUID") or "")).name,
        "instance": _text(dataset, "SOPInstanceUID"),
        "series": _text(dataset, "SeriesInstanceUID"),
        "study": _text(dataset, "StudyInstanceUID"),
        "patient": _text(dataset, "PatientID"),
        "study_date": _text(dataset, "StudyDate"),
        "frame_of_reference": _text(dataset, "FrameOfReferenceUID"),
        "manufacturer": _text(dataset, "Manufacturer"),
        "model": _text(dataset, "ManufacturerModelName"),
        "rows": _number(dataset, "Rows"),
        "columns": _number(dataset, "Columns"),
        "frames": _number(dataset, "NumberOfFrames"),
        "pixel_spacing": _numbers(dataset, "PixelSpacing", 2),
        "slice_thickness": _number(dataset, "SliceThickness"),
        "position": _numbers(dataset, "ImagePositionPatient", 3),
        "orientation": _numbers(dataset, "ImageOrientationPatient", 6),
        "number": _number(dataset, "InstanceNumber"),
    }
    more = {"RT Dose": _dose, "RT Plan": _plan, "RT Structure Set": _structures}.get(type_of(dataset))
    if more is not None:
        facts |= more(dataset)
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def _dose(dataset: Any) -> dict[str, Any]:
    return {
        "units": _text(dataset, "DoseUnits"),
        "dose_type": _text(dataset, "DoseType"),
        "summation": _text(dataset, "DoseSummationType"),
        "scaling": _number(dataset, "DoseGridScaling"),
        "refers": _instances(dataset, "ReferencedRTPlanSequence"),
    }


def _plan(dataset: Any) -> dict[str, Any]:
    groups = dataset.get("FractionGroupSequence") or []
    return {
        "fractions": sum(int(_number(item, "NumberOfFractionsPlanned") or 0) for item in groups),
        "beams": len(dataset.get("BeamSequence") or dataset.get("IonBeamSequence") or []),
        "refers": _instances(dataset, "ReferencedStructureSetSequence"),
    }


def _structures(dataset: Any) -> dict[str, Any]:
    kinds = {
        _text(item, "ReferencedROINumber"): _text(item, "RTROIInterpretedType")
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    contours = {
        _text(item, "ReferencedROINumber"): len(item.get("ContourSequence") or [])
        for item in dataset.get("ROIContourSequence") or []
    }
    regions = dataset.get("StructureSetROISequence") or []
    found = [
        {
            "number": _text(item, "ROINumber"),
            "name": _text(item, "ROIName"),
            "kind": kinds.get(_text(item, "ROINumber"), ""),
            "contours": contours.get(_text(item, "ROINumber"), 0),
        }
        for item in list(regions)[:MAX_STRUCTURES]
    ]
    return {"structures": found, "structure_count": len(regions), "refers": _series(dataset)}


def _series(dataset: Any) -> list[str]:
    """Return the series that a structure set is drawn on."""
    found: dict[str, None] = {}
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                found.setdefault(_text(series, "SeriesInstanceUID"))
    return list(found)[:MAX_REFERENCES]


def _instances(dataset: Any, sequence: str) -> list[str]:
    return [_text(item, "ReferencedSOPInstanceUID") for item in dataset.get(sequence) or []][:MAX_REFERENCES]


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else "".join(char for char in str(value)[:256] if char.isprintable())


def _number(dataset: Any, name: str) -> float | int | None:
    return _finite(dataset.get(name))


def _numbers(dataset: Any, name: str, count: int) -> list[float | int] | None:
    value = dataset.get(name)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count:
        return None
    found = [_finite(item) for item in value]
    return None if None in found else [item for item in found if item is not None]


def _finite(value: Any) -> float | int | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number) or abs(number) > 1e15:
        return None
    return int(number) if number.is_integer() else number
