"""UIDs that only look like the standard's, short names, numbers: nothing of them survives."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from ingest.adapters.dicom import reading
from ingest.adapters.dicom.deidentify import Policy
from ingest.adapters.dicom.pseudonyms import Pseudonyms
from ingest.domain.names import masked
from ingest.errors import DicomRefused

NAMES = Pseudonyms("s" * 40, "default")


def file(**tags: Any) -> bytes:
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in tags.items():
            setattr(dataset, name, value)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(out, dataset)
    return out.getvalue()


def clean(**tags: Any) -> reading.DicomFile:
    return reading.read(file(**tags), NAMES, Policy())


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize(
    "value", ["1.2.840.10008.Zanzibarius^M", "1.2.840.10008.1/../../x", "1.2.840.10008.5.77341.19700101"]
)
def test_only_the_standards_own_uids_stay(tag: str, value: str) -> None:
    found = clean(**{tag: value})
    assert value.encode() not in found.data
    assert value not in found.path + str(found.facts)


def test_a_transfer_syntax_is_one_of_the_standards() -> None:
    data = file()
    at = data.index(b"1.2.840.10008.1.2.1\0")
    old = data[at - 8 : at + 20]
    new = old[:6] + (32).to_bytes(2, "little") + b"1.2.840.10008.1.2.1.Zanzibarius\0"
    with pytest.raises(DicomRefused):
        reading.read(data.replace(old, new, 1), NAMES, Policy())


@pytest.mark.parametrize("name", ["山田^太郎", "Li^Wu", "Oñ^Ü"])
def test_short_names_do_not_survive(name: str) -> None:
    found = clean(SpecificCharacterSet="ISO_IR 192", PatientName=name, ConvolutionKernel=name.replace("^", " "))
    assert name.split("^", maxsplit=1)[0].encode() not in found.data


def test_a_number_that_is_the_patients_does_not_survive() -> None:
    out = pydicom.dcmread(io.BytesIO(clean(PatientID="77341", SeriesNumber="77341", InstanceNumber="77341").data))
    assert "77341" not in f"{out.get('SeriesNumber')} {out.get('InstanceNumber')}"


def test_short_numbers_leave_measures_alone() -> None:
    out = pydicom.dcmread(io.BytesIO(clean(PatientID="1", PatientName="A^B", SeriesNumber="1").data))
    assert (out.SeriesNumber, out.ConvolutionKernel is not None, out.Rows) == (1, True, 128)


@pytest.mark.parametrize("path", ["Smith.John/x.dcm", "Smith^M.Maria", "a/19700101.smith"])
def test_the_shape_of_a_path_tells_no_name(path: str) -> None:
    assert not {"smith", "john", "maria"} & set(masked(path).casefold().replace("*", "").replace("/", ".").split("."))
    assert masked("x/y.dcm") == "*/*.dcm"
