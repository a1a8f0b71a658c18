"""Real DICOM: pydicom's own samples, and the same with a patient planted wherever one may be written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

SAMPLES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "rtdose.dcm", "rtstruct.dcm")
PLANTED = ("Mustermann", "Quirinius", "PID-4711-XYZ", "19470311")
"""Family name, given name, number and birthday of a patient who must not be found anywhere."""


@cache
def sample(name: str) -> bytes:
    return Path(str(get_testdata_file(name))).read_bytes()


def dataset(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(sample(name)), force=True)


def written(found: Any) -> bytes:
    if not getattr(found, "file_meta", None) or "TransferSyntaxUID" not in found.file_meta:
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(out, found, enforce_file_format=True)
    return out.getvalue()


def planted(name: str, **changes: Any) -> bytes:
    """Return a sample with the patient in names, texts, private and nested attributes, and in the preamble."""
    found = dataset(name)
    family, given, number, birthday = PLANTED
    found.PatientName, found.PatientID, found.PatientBirthDate = f"{family}^{given}", number, birthday
    found.OtherPatientIDs = [number, family]
    found.StudyDescription = found.SeriesDescription = found.ImageComments = f"{given} {family}, {number}"
    found.PatientComments = found.AdditionalPatientHistory = f"born {birthday}"
    found.ReferringPhysicianName = found.OperatorsName = f"{family}^{given}"
    found.InstitutionName = found.ManufacturerModelName = f"Praxis {family}"
    found.ProtocolName = found.AccessionNumber = family
    found.Manufacturer = f"made for {family.upper()}"
    found.DeviceUID = f"1.2.3.{birthday}"
    found.add(DataElement(0x00091001, "LO", f"private {family}"))
    found.add(DataElement(0x00090010, "LO", "ACME"))
    found.add(DataElement(0x60003000, "OW", family.encode() + b"\0\0"))
    found.add(DataElement(0x00189999, "LO", f"unknown {family}"))
    inner = Dataset()
    inner.PatientName, inner.CodeMeaning = f"{family}^{given}", f"seen by {family}"
    inner.TextValue = f"{given} again"
    inner.ReferencedSOPInstanceUID = f"1.2.3.{birthday}"
    inner.add(DataElement(0x00091001, "LO", f"nested private {family}"))
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    outer.ReferencedSOPInstanceUID = "1.2.3.4"
    found.SourceImageSequence = Sequence([outer])
    found.RequestAttributesSequence = Sequence([inner])
    found.preamble = (family.encode() * 20)[:128]
    for keyword, value in changes.items():
        setattr(found, keyword, value)
    return written(found)


def slices(count: int) -> Iterator[bytes]:
    """Yield a patient's scan: slices 2.5 mm apart, one study, one series."""
    for number in range(count):
        found = dataset("CT_small.dcm")
        found.PatientName, found.PatientID = f"{PLANTED[0]}^{PLANTED[1]}", PLANTED[2]
        found.SOPInstanceUID = f"1.2.3.4.{number}"
        found.InstanceNumber = number + 1
        found.ImagePositionPatient = [-100, -100, 2.5 * number]
        yield written(found)


def leaks(data: bytes) -> list[str]:
    """Return what of the patient is found in bytes, in any spelling."""
    folded = data.lower()
    return [word for word in PLANTED if word.lower().encode() in folded]
