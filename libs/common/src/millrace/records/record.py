"""One record: a file of a version with its type and facts, or a group of such files (a series, a study).

A file's record has the file's path as its id. A group has no bytes of its own: its id begins with a slash, which no
path does, its size is the sum of its members' sizes, and its digest is taken over theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from millrace.datasets.keys import check_digest
from millrace.datasets.limits import MAX_FILE
from millrace.datasets.paths import check_path, printable
from millrace.errors import Invalid
from millrace.events.envelope import canonical_json

TYPES = (
    "CT Image",
    "CT Slice",
    "MR Image",
    "MR Slice",
    "DICOM Image",
    "DICOM Slice",
    "RT Dose",
    "RT Plan",
    "RT Structure Set",
    "Study",
    "Image",
    "Table",
    "Text",
    "Archive",
    "File",
)
"""Types that Millrace itself gives. A table may hold others: readers take what they do not know for a `File`."""

MAX_METADATA = 64 * 1024
"""Largest metadata of one record, as JSON text in bytes."""

MAX_SOURCE = 1_024
MAX_REFERENCES = 100_000

_TYPE = re.compile(r"[A-Z][A-Za-z0-9 ]{0,62}\Z")
_MEDIA = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}/[a-z0-9][a-z0-9.+-]{0,62}\Z")
_ROLE = re.compile(r"[a-z][a-z0-9 -]{0,62}\Z")
_GROUP = re.compile(r"/[A-Za-z0-9._/-]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """Another record that this one needs or consists of: `link` is its id, with digest (hex) and size in bytes."""

    role: str
    link: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `path` is None for a group; `metadata` is a JSON object as canonical text; size in bytes."""

    id: str
    type: str
    path: str | None
    size: int
    digest: str
    media_type: str
    source: str = ""
    references: tuple[Reference, ...] = ()
    metadata: str = "{}"

    def facts(self) -> dict[str, Any]:
        """Return the metadata as a dictionary."""
        found: dict[str, Any] = json.loads(self.metadata)
        return found


def metadata_text(facts: Mapping[str, Any]) -> str:
    """Return metadata as it is stored.

    Raises:
        Invalid: not JSON, or larger than `MAX_METADATA`.
    """
    try:
        text = canonical_json(dict(facts)).decode()
    except (TypeError, ValueError, RecursionError):
        raise Invalid("the metadata of a record is not JSON") from None
    if len(text.encode()) > MAX_METADATA:
        raise Invalid(f"the metadata of a record exceeds {MAX_METADATA} bytes")
    return text


def group(record_id: str, kind: str, members: Iterable[Reference], facts: Mapping[str, Any]) -> Record:
    """Return the record of a group."""
    found = tuple(members)
    digest = blake3("\n".join(sorted(member.digest for member in found)).encode()).hexdigest()
    size = sum(member.size for member in found)
    media_type = "application/vnd.millrace.group"
    return Record(record_id, kind, None, size, digest, media_type, "", found, metadata_text(facts))


def check_record(record: Record) -> None:
    """Check everything that a single record can tell.

    Raises:
        Invalid: a rule is broken; the message names the record.
    """
    where = printable(record.id)
    if record.path is None:
        if not _GROUP.match(record.id):
            raise Invalid(f"record {where}: not the id of a group")
    elif check_path(record.path) != record.id:
        raise Invalid(f"record {where}: the id of a file's record is its path")
    check_digest(record.digest)
    for good, what in (
        (_TYPE.match(record.type), "type"),
        (_MEDIA.match(record.media_type), "media type"),
        (0 <= record.size <= MAX_FILE, "size"),
        (len(record.source) <= MAX_SOURCE and record.source.isprintable(), "source"),
        (len(record.references) <= MAX_REFERENCES, "number of references"),
    ):
        if not good:
            raise Invalid(f"record {where}: bad {what}")
    for reference in record.references:
        _check_reference(reference, where)
    _check_metadata(record.metadata, where)


def _check_reference(reference: Reference, where: str) -> None:
    check_digest(reference.digest)
    if not _ROLE.match(reference.role) or not 0 <= reference.size <= MAX_FILE:
        raise Invalid(f"record {where}: a malformed reference")
    if not _GROUP.match(reference.link):
        check_path(reference.link)


def _check_metadata(text: str, where: str) -> None:
    try:
        good = len(text.encode()) <= MAX_METADATA and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        good = False
    if not good:
        raise Invalid(f"record {where}: the metadata is no JSON object, or too large")
