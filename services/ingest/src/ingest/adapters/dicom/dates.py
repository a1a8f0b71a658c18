"""Moving dates: intervals between a patient's studies stay, the calendar goes."""

from __future__ import annotations

import re
from datetime import date, timedelta

_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})(.*)\Z", re.DOTALL)


def moved(value: str, days: int) -> str:
    """Return a DA or DT with its day moved and its time kept; what names no day becomes empty."""
    found = _DATE.match(value.strip())
    if found is None:
        return ""
    year, month, day, rest = found.groups()
    if re.fullmatch(r"(\d{0,6}(\.\d{1,6})?([+-]\d{4})?)?", rest) is None:
        return ""
    try:
        new = date(int(year), int(month), int(day)) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{new.year:04}{new.month:02}{new.day:02}{rest}"
