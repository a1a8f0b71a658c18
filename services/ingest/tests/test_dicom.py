"""De-identification and bounded parsing, on bytes alone."""

from __future__ import annotations

import io
import random
import struct
import time
import warnings
from datetime import datetime
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ingest.adapters.dicom.admission import Admission
from ingest.adapters.dicom.dates import moved
from ingest.adapters.dicom.deidentify import Policy
from ingest.adapters.dicom.detect import recognise
from ingest.adapters.dicom.profile import ACTIONS, Action, action_of
from ingest.adapters.dicom.pseudonyms import Pseudonyms
from ingest.adapters.dicom.reading import read
from ingest.adapters.dicom.structures import clean_name
from ingest.adapters.dicom.walk import MAX_DEPTH, MAX_ELEMENTS, check
from ingest.errors import DicomRefused
from millrace.errors import Invalid

from .dicom_files import PLANTED, SAMPLES, dataset, leaks, planted, sample, written

SECRET = "a secret of the tests, and long enough"
NAMES = Pseudonyms(SECRET, "default")
ANY = Policy()


def opened(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_of_a_patient_survives(name: str) -> None:
    dirty = planted(name)
    assert leaks(dirty) == list(PLANTED)
    found = read(dirty, NAMES, ANY)
    assert leaks(found.data) == []
    assert leaks(found.path.encode()) == []
    assert leaks(repr(found.facts).encode()) == []
    clean = opened(found.data)
    assert (clean.PatientIdentityRemoved, clean.PatientBirthDate) == ("YES", "")
    assert [code.CodeValue for code in clean.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
    assert not [tag for tag in list(clean.keys()) if tag.is_private]
    assert clean.file_meta.MediaStorageSOPInstanceUID == clean.SOPInstanceUID


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_file_gives_the_same_bytes_and_other_projects_other_names(name: str) -> None:
    first, again = read(sample(name), NAMES, ANY), read(sample(name), NAMES, ANY)
    other = read(sample(name), Pseudonyms(SECRET, "other"), ANY)
    assert first == again
    assert not {first.path.split("/")[0], first.facts["patient"]} & {other.path.split("/")[0], other.facts["patient"]}
    assert recognise(first.data[:4_096])


def test_pixels_and_geometry_stay() -> None:
    before, after = dataset("CT_small.dcm"), opened(read(sample("CT_small.dcm"), NAMES, ANY).data)
    assert after.PixelData == before.PixelData
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "Rows"):
        assert after[keyword].value == before[keyword].value
    structures = opened(read(sample("rtstruct.dcm"), NAMES, ANY).data)
    before = dataset("rtstruct.dcm")
    assert [item.ContourData for roi in structures.ROIContourSequence for item in roi.ContourSequence] == [
        item.ContourData for roi in before.ROIContourSequence for item in roi.ContourSequence
    ]


def test_references_between_objects_stay_whole() -> None:
    plan, dose = (
        opened(read(sample("rtplan.dcm"), NAMES, ANY).data),
        opened(read(sample("rtdose.dcm"), NAMES, ANY).data),
    )
    old_plan, old_dose = dataset("rtplan.dcm"), dataset("rtdose.dcm")
    assert NAMES.uid(old_plan.SOPInstanceUID) == plan.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == NAMES.uid(
        old_dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID
    )
    assert dose.SOPClassUID == old_dose.SOPClassUID


def test_intervals_of_a_patient_stay_and_the_calendar_goes() -> None:
    days = []
    for date in ("20200101", "20200315"):
        found = dataset("CT_small.dcm")
        found.StudyDate = date
        days.append(datetime.strptime(opened(read(written(found), NAMES, ANY).data).StudyDate, "%Y%m%d"))  # noqa: DTZ007
    assert (days[1] - days[0]).days == 74
    assert days[0].year < 2020


@pytest.mark.parametrize(
    ("value", "new"),
    [
        ("20200101", "20191231"),
        ("2020.01.01", "20191231"),
        ("20200101123000.5+0100", "20191231123000.5+0100"),
        ("2020", ""),
        ("20201399", ""),
        ("00010101", ""),
        ("Mustermann", ""),
        ("20200101Mustermann", ""),
    ],
)
def test_dates_move_or_go(value: str, new: str) -> None:
    assert moved(value, -1) == new


def test_private_attributes_stay_only_where_they_are_listed() -> None:
    found = dataset("CT_small.dcm")
    found.private_block(0x0029, "ACME", create=True).add_new(0x01, "DS", "1.5")
    found.private_block(0x0029, "ACME", create=True).add_new(0x02, "LO", "x")
    dirty = written(found)
    kept = opened(read(dirty, NAMES, Policy(private=frozenset({(0x0029, 0x01, "ACME")}))).data)
    assert kept.private_block(0x0029, "ACME")[0x01].value == 1.5
    assert [tag.elem & 0xFF for tag in list(kept.keys()) if tag.is_private] == [0x11, 0x01]


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("PTV_60Gy", "ROI-7"),
        ("PTV 60", "PTV 60"),
        ("Lung_L", "Lung_L"),
        ("spinal cord", "spinal cord"),
        ("Mustermann Lung", "ROI-7"),
        ("Lung 19470311", "ROI-7"),
        ("", "ROI-7"),
        ("Lunge", "ROI-7"),
    ],
)
def test_structure_names_are_anatomy_or_numbers(name: str, clean: str) -> None:
    assert clean_name(name, "7") == clean


def test_a_project_may_know_more_words() -> None:
    assert clean_name("PTV_60Gy", "7", {"gy"}) == "PTV_60Gy"


def test_structure_names_are_in_the_record() -> None:
    found = read(sample("rtstruct.dcm"), NAMES, ANY)
    assert [item["name"] for item in found.facts["structures"]] == ["patient", "Isocenter 1", "Isocenter 2"]
    assert [item["contours"] for item in found.facts["structures"]] == [3, 1, 1]


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"Modality": "US"}, False),
        ({"Modality": "SC"}, False),
        ({"Modality": "OT"}, False),
        ({"Modality": "XA"}, False),
        ({"Modality": ""}, False),
        ({"BurnedInAnnotation": "YES"}, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, False),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, False),
        ({"SOPClassUID": "1.3.6.1.4.1.5"}, False),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, True),
        ({"BurnedInAnnotation": "NO"}, True),
    ],
)
def test_pixels_that_may_show_a_name_are_refused(changes: dict[str, Any], taken: bool) -> None:
    found = dataset("CT_small.dcm")
    for keyword, value in changes.items():
        setattr(found, keyword, value)
    if taken:
        assert read(written(found), NAMES, ANY).admission is Admission.TAKE
    else:
        with pytest.raises(DicomRefused):
            read(written(found), NAMES, ANY)


@pytest.mark.parametrize("part", ["88.11", "88.33", "104.1", "104.2", "11.1", "66", "9.1.1"])
def test_reports_and_documents_are_no_images(part: str) -> None:
    found = dataset("CT_small.dcm")
    found.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{part}"
    assert read(written(found), NAMES, ANY).admission is Admission.DOCUMENT


def test_an_index_of_a_medium_is_no_object() -> None:
    assert read(sample("DICOMDIR"), NAMES, ANY).admission is Admission.INDEX


def test_the_profile_is_the_standards() -> None:
    assert len(ACTIONS) > 600
    wanted = {0x00100010: Action.EMPTY, 0x00081048: Action.REMOVE, 0x0020000D: Action.MAP, 0x00080080: Action.DUMMY}
    assert {tag: action_of(tag) for tag in wanted} == wanted
    for tag in (0x60003000, 0x60000010, 0x50050010, 0x00189999, 0xFFFCFFFC, 0x00080000):
        assert action_of(tag) is Action.REMOVE


def test_a_short_secret_is_none() -> None:
    with pytest.raises(Invalid):
        Pseudonyms("short", "default")


@pytest.mark.parametrize(
    "head",
    [
        b"\x08\x00\x00\x00" * 40,
        bytes(200),
        b"\x02\x00\x00\x00\x04\x00\x00\x00\x09\x00\x00\x00" * 9,
        b"II*\0" + bytes(99),
    ],
)
def test_plain_files_are_no_dicom(head: bytes) -> None:
    assert not recognise(head)


def nested(depth: int) -> bytes:
    inner = Dataset()
    inner.CodeValue = "1"
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptNameCodeSequence = Sequence([inner])
        inner = outer
    found = dataset("CT_small.dcm")
    found.PurposeOfReferenceCodeSequence = Sequence([inner])
    return written(found)


def crafted(*elements: bytes) -> bytes:
    meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
    return bytes(128) + b"DICM" + meta + b"".join(elements)


HOSTILE = {
    "huge length": crafted(b"\x08\x00\x60\x00UT\0\0" + struct.pack("<I", 0xFFFFFFF0)),
    "unending item": crafted(b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3),
    "stray end": crafted(b"\xfe\xff\x0d\xe0\0\0\0\0"),
    "text without length": crafted(b"\x08\x00\x60\x00UT\0\0\xff\xff\xff\xff"),
    "no representation": crafted(b"\x08\x00\x60\x00??\x02\0ab"),
    "only a mark": bytes(128) + b"DICM",
    "many elements": crafted(b"\x08\x00\x60\x00CS\0\0" * (MAX_ELEMENTS + 1)),
    "many items": crafted(b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * (MAX_ELEMENTS + 1)),
    "deep": nested(MAX_DEPTH + 5),
    "deeper": crafted((b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 100_000),
    "deflated": crafted().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20]),
    "fragment without length": crafted(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(name: str) -> None:
    begin = time.monotonic()
    with pytest.raises(DicomRefused):
        read(HOSTILE[name], NAMES, ANY)
    assert time.monotonic() - begin < 5


def test_files_of_allowed_depth_are_walked() -> None:
    check(nested(MAX_DEPTH - 4))


@pytest.mark.parametrize("name", SAMPLES)
def test_mutants_are_read_or_refused_and_never_leak(name: str) -> None:
    """Two hundred mutants: bytes changed, cut, doubled. Whatever is taken holds nothing of the patient."""
    dirty, chance = planted(name), random.Random(name)
    for _ in range(40):
        mutant = bytearray(dirty[: chance.randint(0, len(dirty))] if chance.random() < 0.3 else dirty)
        for _ in range(chance.randint(1, 8)):
            if mutant:
                mutant[chance.randrange(min(len(mutant), 1_500))] = chance.randrange(256)
        said = ""
        try:
            found = read(bytes(mutant), NAMES, ANY)
        except DicomRefused as error:
            said, found = error.message, None
        assert leaks(said.encode()) == []
        if found is None:
            continue
        if found.admission is Admission.TAKE:
            pixels = opened(found.data)
            assert leaks(found.path.encode()) == []
            assert pixels.PatientIdentityRemoved == "YES"


def test_a_sequence_in_disguise_is_cleaned_or_goes() -> None:
    """A public sequence written as UN, with a name in its implicit items."""
    name = b"Mustermann^Quirinius"
    inner = b"\x10\x00\x10\x00" + struct.pack("<I", len(name)) + name
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
    for tag in (0x00082112, 0x0040A730, 0x00420011, 0x00104321):
        found = dataset("CT_small.dcm")
        found.add(DataElement(tag, "OB", item))
        mark = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        dirty = written(found).replace(mark + b"OB", mark + b"UN")
        assert leaks(dirty) == ["Mustermann", "Quirinius"]
        assert leaks(read(dirty, NAMES, ANY).data) == []


@pytest.mark.parametrize(
    ("charset", "encoding", "family"),
    [
        ("ISO_IR 192", "utf-8", "M\u00fcller"),
        ("ISO_IR 100", "latin-1", "M\u00fcller"),
        ("ISO_IR 144", "iso8859_5", "\u0418\u0432\u0430\u043d\u043e\u0432"),
    ],
)
def test_names_in_other_alphabets_go_too(charset: str, encoding: str, family: str) -> None:
    found = dataset("CT_small.dcm")
    found.SpecificCharacterSet = charset
    found.PatientName, found.Manufacturer, found.ConvolutionKernel = f"{family}^X", f"for {family}", family.upper()
    dirty = written(found)
    clean = read(dirty, NAMES, ANY).data
    for spelled in (family, family.upper(), family.lower()):
        assert spelled.encode(encoding) not in clean
    assert family.encode(encoding) in dirty


def test_a_name_is_not_looked_for_inside_of_fixed_terms() -> None:
    found = dataset("CT_small.dcm")
    found.PatientName, found.BodyPartExamined, found.ConvolutionKernel = "Mono^Axial", "AXIAL", "for Mono"
    clean = opened(read(written(found), NAMES, ANY).data)
    assert clean.PhotometricInterpretation == "MONOCHROME2"
    assert "BodyPartExamined" not in clean
    assert "ConvolutionKernel" not in clean


def test_a_number_that_is_a_name_goes() -> None:
    found = dataset("CT_small.dcm")
    found.add(DataElement(0x00181151, "LO", "Mustermann"))
    dirty = written(found).replace(b"\x18\x00\x51\x11LO", b"\x18\x00\x51\x11IS")
    assert leaks(dirty) == ["Mustermann"]
    assert leaks(read(dirty, NAMES, ANY).data) == []
