"""How numbers, times and states are written on pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

NOTHING = "\N{EN DASH}"
"""What stands where there is nothing to show."""

_STATES = {
    "ready": "good",
    "completed": "good",
    "resolved": "good",
    "landed": "good",
    "quiet": "good",
    "failed": "bad",
    "drifted": "bad",
    "open": "bad",
    "rolled_back": "bad",
    "cancelled": "muted",
    "retired": "muted",
    "absent": "muted",
    "trashed": "muted",
}


def size(value: float | None) -> str:
    """Return bytes as a person reads them: `1.4 MB`."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1_000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1_000
    return NOTHING


def number(value: Any) -> str:
    """Return a number with thin group separators, or three significant decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING if value is None else str(value)
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else f"{value:.4g}"


def short(value: str | None) -> str:
    """Return the first twelve characters of a digest or id."""
    return (value or NOTHING)[:12]


def moment(value: str | None) -> str:
    """Return an ISO time as `25 Nov 14:03:07` UTC."""
    if not value:
        return NOTHING
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return value
    return parsed.astimezone(UTC).strftime("%-d %b %H:%M:%S")


def tone(state: str | None) -> str:
    """Return the tone that a state is shown in: good, bad, muted or busy."""
    return _STATES.get((state or "").lower(), "busy")


def span(seconds: float | None) -> str:
    """Return a time span as a person says it: `3 h`."""
    if seconds is None:
        return NOTHING
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s"


def percent(part: float | None, whole: float | None) -> float:
    """Return a share of a whole between 0 and 100, as the width of a bar."""
    return round(min(100.0, max(0.0, 100.0 * (part or 0) / whole)), 2) if whole else 0.0


def urlpath(value: str) -> str:
    """Return a path with everything escaped that means something in a URL; slashes stay."""
    return quote(value, safe="/")


def selection(entry: dict[str, Any]) -> str:
    """Return which part of its version a copy holds, and in which form; empty for the whole tree."""
    paths = ", ".join(entry.get("paths") or ())
    if entry.get("mode") == "packs":
        return f"packs of {paths}" if paths else "packs"
    return paths


def folder_pattern(folder: str) -> str:
    """Return the pattern, as in `.gitignore`, that matches what lies below just this folder."""
    return "/" + re.sub(r"([*?\[\]\\])", r"\\\1", folder)


FILTERS: dict[str, Callable[..., Any]] = {
    "percent": percent,
    "size": size,
    "number": number,
    "short": short,
    "moment": moment,
    "tone": tone,
    "span": span,
    "urlpath": urlpath,
    "selection": selection,
    "folder_pattern": folder_pattern,
}
