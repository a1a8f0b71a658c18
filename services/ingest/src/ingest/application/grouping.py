"""Series and studies out of the records of DICOM files, and what those refer to. A pure function of the files' records.

So whenever files join or leave a dataset, groups are simply made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

from millrace.records import Record, Reference
from millrace.records.record import group

DICOM = "application/dicom"
_SERIES = {"CT Slice": "CT Image", "MR Slice": "MR Image", "DICOM Slice": "DICOM Image"}
_ROLES = {"RT Dose": "dose", "RT Plan": "plan", "RT Structure Set": "structures"}
_SHARED = (
    "modality",
    "patient",
    "study",
    "frame_of_reference",
    "manufacturer",
    "model",
    "rows",
    "columns",
    "pixel_spacing",
    "slice_thickness",
    "orientation",
)

Facts = Mapping[str, Any]
Item = tuple[Record, Facts]


def with_groups(files: Iterable[Record]) -> list[Record]:
    """Return the files' records and those of the series and studies that they make up."""
    plain: list[Record] = []
    items: list[Item] = []
    for record in files:
        facts = record.facts() if record.media_type == DICOM else {}
        if facts.get("study"):
            items.append((record, facts))
        else:
            plain.append(record)
    series = [_series(uid, members) for uid, members in _by("series", items) if members[0][0].type in _SERIES]
    linked = [(_linked(record, facts, series, items), facts) for record, facts in items]
    studies = [_study(uid, members, series) for uid, members in _by("study", linked)]
    return [*plain, *(record for record, _ in linked), *series, *studies]


def _by(name: str, items: Sequence[Item]) -> list[tuple[str, list[Item]]]:
    found: dict[str, list[Item]] = {}
    for record, facts in items:
        if facts.get(name) and (name == "study" or record.type in _SERIES):
            found.setdefault(str(facts[name]), []).append((record, facts))
    return sorted(found.items())


def _series(uid: str, members: list[Item]) -> Record:
    placed = sorted(members, key=lambda item: (_along(item[1]) or 0.0, item[1].get("number") or 0, item[0].id))
    first = placed[0][1]
    facts = {name: first[name] for name in _SHARED if name in first}
    facts |= {"series": uid, "slices": len(placed)} | _geometry([_along(facts) for _, facts in placed])
    references = [Reference("slice", record.id, record.digest, record.size) for record, _ in placed]
    return group(f"/series/{uid}", _SERIES[placed[0][0].type], references, facts)


def _along(facts: Facts) -> float | None:
    """Return how far along its normal a slice lies, in mm."""
    position, orientation = facts.get("position"), facts.get("orientation")
    if not position or not orientation or len(position) != 3 or len(orientation) != 6:
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return float(sum(place * way for place, way in zip(position, normal, strict=True)))


def _geometry(places: Sequence[float | None]) -> dict[str, Any]:
    """Return slice spacing, whether it is even, and scan length (first to last slice), in mm."""
    known = [place for place in places if place is not None]
    steps = [later - earlier for earlier, later in pairwise(known)]
    if len(known) < len(places) or not steps:
        return {}
    spacing = median(steps)
    even = all(abs(step - spacing) <= max(1e-2, spacing * 1e-2) for step in steps)
    return {"slice_spacing": round(spacing, 4), "even": even, "scan_length": round(known[-1] - known[0], 4)}


def _linked(record: Record, facts: Facts, series: list[Record], items: Sequence[Item]) -> Record:
    """Return a record with references to what it is drawn on, was planned with, or is a dose of."""
    wanted = set(facts.get("refers") or ())
    if not wanted or record.type not in _ROLES:
        return replace(record, references=())
    found = [_reference("image", image) for image in series if image.id.removeprefix("/series/") in wanted]
    found += [
        _reference(_ROLES[other.type], other)
        for other, said in items
        if said.get("instance") in wanted and other.type in _ROLES
    ]
    return replace(record, references=tuple(found))


def _study(uid: str, members: list[Item], series: list[Record]) -> Record:
    mine = {str(facts.get("series")) for record, facts in members if record.type in _SERIES}
    found = [_reference("image", image) for image in series if image.id.removeprefix("/series/") in mine]
    found += [_reference(_ROLES[record.type], record) for record, _ in members if record.type in _ROLES]
    first = members[0][1]
    facts = {name: first[name] for name in ("patient", "study_date") if name in first}
    modalities = sorted({str(facts["modality"]) for _, facts in members if facts.get("modality")})
    return group(f"/studies/{uid}", "Study", found, facts | {"study": uid, "modalities": modalities[:100]})


def _reference(role: str, record: Record) -> Reference:
    return Reference(role, record.id, record.digest, record.size)
