"""From the bytes of a DICOM file as it landed to bytes without identity, and what is known of them.

pydicom is asked only after `walk.check`; whatever it stumbles over then is a refusal, too. Its warnings and log lines
quote values, so none of them gets out.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

import pydicom
from blake3 import blake3
from pydicom import config
from pydicom.dataset import FileMetaDataset

from ingest.adapters.dicom.admission import Admission, admission
from ingest.adapters.dicom.deidentify import Policy, deidentify
from ingest.adapters.dicom.detect import HEAD, has_preamble
from ingest.adapters.dicom.facts import facts_of, type_of
from ingest.adapters.dicom.pseudonyms import Pseudonyms
from ingest.adapters.dicom.walk import check
from ingest.errors import DicomRefused
from millrace.errors import MillraceError

IMPLEMENTATION = "2.25.307217483105917424309281950716213041"
"""Names the program that wrote a file, as the standard wants; made once, and means nothing."""

logging.getLogger("pydicom").disabled = True


@dataclass(frozen=True)
class DicomFile:
    """A file without identity: bytes, path in the version, type and metadata. Without bytes it is not taken."""

    admission: Admission
    data: bytes = b""
    path: str = ""
    type: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def read(data: bytes, names: Pseudonyms | None, policy: Policy) -> DicomFile:
    """Return what becomes of a DICOM file; without `names` it stays as it is, and only its record is made.

    Raises:
        DicomRefused: not readable within bounds, or not to be freed of identities.
    """
    syntax = check(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data, syntax, names, policy)
    except MillraceError:
        raise
    except (Exception, RecursionError) as error:  # noqa: BLE001 - a parser of strangers' bytes; its words may quote them
        raise DicomRefused(f"the DICOM file cannot be read ({type(error).__name__})") from None


def _read(data: bytes, syntax: str, names: Pseudonyms | None, policy: Policy) -> DicomFile:
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    dataset = pydicom.dcmread(io.BytesIO(data), force=not has_preamble(data[:HEAD]))
    if names is None:
        return DicomFile(Admission.TAKE, data, "", type_of(dataset), facts_of(dataset))
    decided = admission(dataset)
    if decided is not Admission.TAKE:
        return DicomFile(decided)
    deidentify(dataset, names, policy)
    for wanted in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not str(dataset.get(wanted) or ""):
            raise DicomRefused(f"it has no {wanted}")
    clean = _written(dataset, syntax)
    folder = f"{dataset.StudyInstanceUID}/{dataset.SeriesInstanceUID}"
    path = f"{folder}/{blake3(clean).hexdigest()}.dcm"
    return DicomFile(Admission.TAKE, clean, path, type_of(dataset), facts_of(dataset))


def _written(dataset: Any, syntax: str) -> bytes:
    """Return the file: a new header, an empty preamble, and nothing after the data set."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    meta.ImplementationClassUID = pydicom.uid.UID(IMPLEMENTATION)
    meta.ImplementationVersionName = "MILLRACE"
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()
