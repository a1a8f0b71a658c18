"""What may be said of a file before it is known that its name tells nobody's: its place in the list and its shape."""

from __future__ import annotations

import re

_ENDING = re.compile(r"\.[a-z0-9]{1,8}\Z")
_FORMATS = (
    ".dcm .ima .csv .tsv .json .jsonl .txt .md .xml .yaml .yml .png .jpg .jpeg .gif .bmp .tif .tiff "
    ".webp .parquet .npy .npz .nii .gz .bz2 .xz .zst .tar .tgz .zip .nrrd .mha .h5 .pdf .html .py .sh "
    ".exe"
)
_ENDINGS = frozenset(_FORMATS.split())
"""Endings that say a format. Any other could be the end of a name."""

MAX_SEGMENTS = 12


def masked(path: str) -> str:
    """Return the shape of a path: dots, slashes and the ending of a format stay, names become `*`."""
    segments = path[:4_096].replace("\\", "/").split("/")
    shown = [_segment(segment) for segment in segments[:MAX_SEGMENTS]]
    return "/".join(shown) + ("/…" if len(segments) > MAX_SEGMENTS else "")


def _segment(segment: str) -> str:
    if segment in {"", ".", ".."}:
        return segment
    return "*" + format_ending(segment)


def format_ending(name: str) -> str:
    """Return the ending of a file's name in lower case, if it says a format; else nothing."""
    found = _ENDING.search(name.casefold())
    return found.group(0) if found and found.group(0) in _ENDINGS else ""


def named(what: str, number: int, path: str, *, openly: bool) -> str:
    """Return how a message names a file: by its name, or by number and shape where names may be people's."""
    shown = ascii(path[:200]) if openly else f"'{masked(path)}'"
    return f"{what} {number} ({shown})"
