"""PS3.15, table E.1-1: what the Basic Application Level Confidentiality Profile does to each attribute.

The table is `dicom-anonymizer`'s, generated from the standard's 2026c edition; the decisions that it leaves open (X/Z,
X/D, …) are made here for the side that keeps files valid. Everything else about it is ours: see decision 0013.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.datadict import dictionary_has_tag

EDITION: Final = "2026c"


class Action(Enum):
    """What is done to an attribute."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    MAP = "U"
    KEEP = "K"


_PLAN = (
    (table.X_TAGS, Action.REMOVE),
    (table.X_Z_TAGS, Action.EMPTY),
    (table.Z_TAGS, Action.EMPTY),
    (table.Z_D_TAGS, Action.EMPTY),
    (table.X_D_TAGS, Action.DUMMY),
    (table.X_Z_D_TAGS, Action.DUMMY),
    (table.D_TAGS, Action.DUMMY),
    (table.U_TAGS, Action.MAP),
    (table.X_Z_U_STAR_TAGS, Action.KEEP),
)


def _actions() -> dict[int, Action]:
    found: dict[int, Action] = {}
    for tags, action in _PLAN:
        found.update({tag[0] << 16 | tag[1]: action for tag in tags if len(tag) == 2})
    return found


ACTIONS = _actions()
"""Tag → action, for every attribute that the table names one by one."""

REPEATING = frozenset({0x5000, 0x6000})
"""Curves and overlays: groups of which the table removes a part, and we all, since half an overlay is none."""

FREE_TEXT = frozenset({"LT", "ST", "UT", "UC", "UR"})
"""Narrative that the table does not name is removed, too."""

PATIENT_GROUP = 0x0010


def action_of(tag: int) -> Action:
    """Return what is done to a public attribute; what the dictionary does not know is removed."""
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0 or (group & 0xFF00) in REPEATING or group in {0x0002, 0xFFFC}:
        return Action.REMOVE
    if not dictionary_has_tag(tag):
        return Action.REMOVE
    return ACTIONS.get(tag, Action.KEEP)


def dummy(vr: str) -> Any:
    """Return the value that replaces one which must not be empty, or None where the attribute goes."""
    if vr in {"AE", "CS", "LO", "PN", "SH", "LT", "ST", "UT", "UC"}:
        return "DEIDENTIFIED"
    if vr in {"IS", "DS"}:
        return "0"
    if vr in {"FD", "FL", "SL", "SS", "UL", "US", "SV", "UV"}:
        return 0
    return None
