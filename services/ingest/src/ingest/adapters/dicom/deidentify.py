"""De-identification of one data set, nested sequences included, by the profile's actions and a project's pseudonyms.

Two nets lie below the table: what its value representation marks as a name, identifier, date or narrative is handled
even where the table does not name it; and whatever still holds a part of the patient's name or number in the end goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import DataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from ingest.adapters.dicom.dates import moved
from ingest.adapters.dicom.profile import EDITION, FREE_TEXT, PATIENT_GROUP, Action, action_of, dummy
from ingest.adapters.dicom.pseudonyms import Pseudonyms
from ingest.adapters.dicom.structures import clean_name
from ingest.adapters.dicom.walk import MAX_DEPTH
from ingest.errors import DicomRefused

METHOD = (f"PS3.15 {EDITION} Basic Profile", "Retain Longitudinal Modified Dates", "Clean Descriptors: ROI names")
_CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
_NAME, _ID, _ROI_NAME, _PIXELS = 0x00100010, 0x00100020, 0x30060026, 0x7FE00010
_PIXEL_GROUP = 0x0028
_IDENTITY = (0x00100010, 0x00100020, 0x00101000, 0x00101001, 0x00101005, 0x00101060, 0x00100030)
"""Attributes of which no part may be found anywhere in the result."""

MIN_PART = 3
"""Shorter ASCII parts of a name are looked for as whole words, in attributes that hold free words."""

MIN_DIGITS = 4
"""Shorter numbers are everywhere: the first series of anybody is number 1."""

MIN_INSIDE = 5
"""Shorter parts are looked for as whole words only."""

_NUMBER = re.compile(r"([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?)?")
_FORMS = {"IS": _NUMBER, "DS": _NUMBER, "AS": re.compile(r"(\d{3}[DWMY])?")}
_TEXT = frozenset({"AE", "CS", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "PN"})
_WORDY = frozenset({"LO", "SH", "AE"})
_BYTES = frozenset({"OB", "UN", "OW", "OL", "OF", "OD", "OV"})
_TERMS = frozenset({"CS", "AE"})
"""Fixed terms: only a whole word of them can be a name. Mr. Mono's images stay MONOCHROME2."""

MAX_SEARCHED = 1 << 20


@dataclass(frozen=True)
class Policy:
    """What a project wants: private attributes that stay, as (group, element, creator); more words for structures."""

    private: frozenset[tuple[int, int, str]] = frozenset()
    words: frozenset[str] = frozenset()


@dataclass
class _Run:
    names: Pseudonyms
    policy: Policy
    patient: str
    days: int
    parts: frozenset[str] = field(default_factory=frozenset)


def deidentify(dataset: Dataset, names: Pseudonyms, policy: Policy) -> None:
    """Free a data set of its patient, in place.

    Raises:
        DicomRefused: it is nested too deep.
    """
    patient = _patient(dataset)
    run = _Run(names, policy, patient, names.days(patient), _identity(dataset))
    _clean(dataset, run, 0)
    dataset.add(DataElement(_NAME, "PN", names.name("patient", patient)))
    dataset.add(DataElement(_ID, "LO", names.name("patient", patient)))
    _record_method(dataset)


def _patient(dataset: Dataset) -> str:
    """Return what tells patients apart here; without any number, name and birthday, and at last the study."""
    said = [_said(dataset, tag) for tag in (_ID, 0x00100021)]
    if not said[0]:
        said = [_said(dataset, tag) for tag in (_NAME, 0x00100030)]
    return "\0".join(said) if any(said) else f"study\0{_said(dataset, 0x0020000D)}"


def _said(dataset: Dataset, tag: int) -> str:
    element = dataset.get(tag)
    return "" if element is None or element.value is None else str(element.value).strip("\0 ")


def _identity(dataset: Dataset) -> frozenset[str]:
    found = set()
    for tag in _IDENTITY:
        for text in re.split(r"[\^=\\\s,;|'\[\]]+", _said(dataset, tag).casefold()):
            if len(text) >= 2 or (text and not text.isascii()):
                found.add(text)
    return frozenset(found)


def _clean(dataset: Dataset, run: _Run, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise DicomRefused(f"sequences are nested deeper than {MAX_DEPTH}")
    keep = _kept_private(dataset, run.policy)
    for tag in list(dataset.keys()):
        if tag.is_private:
            if tag not in keep:
                del dataset[tag]
            elif dataset[tag].VR == "SQ":
                _each(dataset[tag].value, run, depth)
            continue
        action = action_of(int(tag))
        if action is Action.REMOVE and not _is_date(dataset, tag):
            del dataset[tag]
        else:
            _apply(dataset, dataset[tag], action, run, depth)


def _is_date(dataset: Dataset, tag: Any) -> bool:
    """Return whether a date that the profile removes is moved instead, as the option has it; a patient's own is not."""
    return tag.group != PATIENT_GROUP and dataset[tag].VR in {"DA", "DT"}


def _kept_private(dataset: Dataset, policy: Policy) -> frozenset[Any]:
    """Return the private tags that the project keeps, with the creators that they need."""
    kept: set[Any] = set()
    for group, low, creator in policy.private:
        for block in range(0x10, 0x100):
            owner, tag = Tag(group, block), Tag(group, block << 8 | low)
            if owner in dataset and tag in dataset and _said(dataset, owner) == creator:
                kept |= {owner, tag}
    return frozenset(kept)


def _apply(dataset: Dataset, element: Any, action: Action, run: _Run, depth: int) -> None:
    vr, tag = element.VR, int(element.tag)
    if tag == _ROI_NAME:
        number = _said(dataset, 0x30060022)
        element.value = clean_name(str(element.value or ""), number, run.policy.words)
        if _tells(element, run):
            element.value = clean_name("", number)
    elif vr == "SQ":
        _sequence(dataset, element, action, run, depth)
    elif vr in {"DA", "DT"} and element.tag.group != PATIENT_GROUP:
        element.value = _mapped(element.value, lambda text: moved(text, run.days))
    elif vr == "TM" and element.tag.group != PATIENT_GROUP:
        element.value = _mapped(element.value, lambda text: text if re.fullmatch(r"[\d.:]{0,16}", text) else "")
    elif vr == "UI":
        element.value = _mapped(element.value, run.names.uid)
    elif action is Action.EMPTY or vr == "PN":
        dataset[element.tag] = DataElement(element.tag, vr, empty_value_for_VR(vr))
    elif action is Action.DUMMY:
        _replace(dataset, element)
    elif action in {Action.MAP, Action.REMOVE} or vr in FREE_TEXT or vr == "UN" or _tells(element, run):
        del dataset[element.tag]


def _sequence(dataset: Dataset, element: Any, action: Action, run: _Run, depth: int) -> None:
    if action is Action.KEEP:
        _each(element.value, run, depth)
    elif action is Action.EMPTY:
        dataset[element.tag] = DataElement(element.tag, "SQ", Sequence())
    else:
        del dataset[element.tag]


def _each(items: Iterable[Dataset], run: _Run, depth: int) -> None:
    for item in items:
        _clean(item, run, depth + 1)


def _replace(dataset: Dataset, element: Any) -> None:
    value = dummy(element.VR)
    if value is None:
        del dataset[element.tag]
    else:
        element.value = value


def _mapped(value: Any, change: Any) -> Any:
    if value is None:
        return value
    if isinstance(value, MultiValue):
        return [change(str(item).strip("\0 ")) for item in value]
    text = str(value).strip("\0 ")
    return change(text) if text else value


def _tells(element: Any, run: _Run) -> bool:
    """Return whether what is left of an attribute still holds a part of the patient's name or number.

    A number that is none, and an age that is none, tell something, too.
    """
    if element.VR == "IS" and element.tag.group != _PIXEL_GROUP:
        said = set(re.findall(r"\d+", str(element.value)))
        if any(part in said for part in run.parts if len(part) >= MIN_DIGITS):
            return True
    if element.VR in _FORMS:
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        return any(value is not None and not _FORMS[element.VR].fullmatch(str(value).strip("\0 ")) for value in values)
    if element.VR in _TEXT:
        text = str(element.value).casefold()
    elif element.VR in _BYTES and int(element.tag) != _PIXELS and isinstance(element.value, bytes):
        if len(element.value) > MAX_SEARCHED:
            return False
        raw = element.value.decode("latin-1").casefold()
        return any(part in raw for part in run.parts if len(part) >= MIN_PART)
    else:
        return False
    words = set(re.findall(r"[^\W_]+", text))
    return any(_part_in(part, text, words, element.VR) for part in run.parts)


def _part_in(part: str, text: str, words: set[str], kind: str) -> bool:
    """Return whether a part of an identity shows in a text; the shorter it is, the more it must stand alone."""
    if not part.isascii():
        return part in text
    if len(part) < MIN_PART:
        return kind in _WORDY and part in words
    return part in words or (kind not in _TERMS and len(part) >= MIN_INSIDE and part in text)


def _record_method(dataset: Dataset) -> None:
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = list(METHOD)
    codes = []
    for value, meaning in _CODES:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    dataset.DeidentificationMethodCodeSequence = Sequence(codes)
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
