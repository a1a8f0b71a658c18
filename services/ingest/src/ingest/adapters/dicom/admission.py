"""Which DICOM objects are taken at all. No tag of a file is trusted further than its class."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydicom.uid import UID

from ingest.errors import DicomRefused

DIRECTORY = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."

BURNED_IN_RISK = frozenset(
    {
        "BDUS",
        "DF",
        "DG",
        "DM",
        "DOC",
        "DS",
        "ES",
        "FS",
        "GM",
        "HC",
        "IVUS",
        "KO",
        "MA",
        "OP",
        "OPT",
        "OT",
        "PX",
        "RF",
        "RG",
        "SC",
        "SM",
        "SR",
        "TG",
        "US",
        "VF",
        "XA",
        "XC",
    }
)
"""Modalities whose pixels often show the patient's name, or that may be anything."""

_RISKY_CLASSES = tuple(_STORAGE + part for part in ("3.", "3", "6.", "6", "7", "12.", "77."))
"""Ultrasound, secondary capture, angiography and visible light."""

_RISKY_IMAGE_TYPES = ("SCREEN", "DOSE", "REPORT", "CAPTURE", "TEXT")

_RT = ("481.2", "481.3", "481.5", "481.8")
_OTHER = ("66.1", "66.3", "66.4", "30")
"""Registrations, segmentations and parametric maps."""


class Admission(Enum):
    """What becomes of an object."""

    TAKE = "take"
    DOCUMENT = "document"
    INDEX = "index"


def admission(dataset: Any) -> Admission:
    """Return whether an object is taken, is a document (reports, PDFs, …), or only an index of a medium.

    Raises:
        DicomRefused: its pixels may show an identity, or its class is unknown.
    """
    sop_class = _uid(dataset.get("SOPClassUID")) or _uid(
        getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID")
    )
    if sop_class == DIRECTORY:
        return Admission.INDEX
    if not sop_class.startswith(_STORAGE):
        raise DicomRefused("its class is not one of the standard's storage classes")
    part, name = sop_class.removeprefix(_STORAGE), UID(sop_class).name
    if part in _RT or part in _OTHER:
        return Admission.TAKE
    if "Image Storage" not in name or ("Presentation" in name and "For Presentation" not in name):
        return Admission.DOCUMENT
    _check_pixels(dataset, sop_class)
    return Admission.TAKE


def _check_pixels(dataset: Any, sop_class: str) -> None:
    burned = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    modality = str(dataset.get("Modality") or "").strip().upper()
    kinds = str(dataset.get("ImageType") or "").upper()
    risky = (
        not modality
        or modality in BURNED_IN_RISK
        or sop_class.startswith(_RISKY_CLASSES)
        or any(word in kinds for word in _RISKY_IMAGE_TYPES)
    )
    if burned == "YES" or (risky and burned != "NO"):
        raise DicomRefused("its pixels may show an identity: BurnedInAnnotation is not NO", hint="redact, then say NO")


def _uid(value: Any) -> str:
    return str(value or "").strip("\0 ")
