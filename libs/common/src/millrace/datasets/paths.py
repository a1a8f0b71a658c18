"""The rules for paths inside a version: what is safe on every file system and can never leave the tree.

A path is relative, `/`-separated, NFC, valid UTF-8, without empty, `.` or `..` segments, without backslashes (a
separator elsewhere), NUL or other control characters. Two paths must differ by more than case or Unicode form, and no
file may stand where another path needs a folder. `_READY` and `.millrace-data` at the top are ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from millrace.datasets.limits import MAX_PATH, MAX_SEGMENT
from millrace.errors import Invalid

RESERVED = frozenset({"_READY", ".millrace-data"})
"""Names at the top of a tree that are never data."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")

MAX_REPORTED = 20


class Refused(Invalid):
    """Some files cannot be part of a version; the message names them."""

    code = "path-refused"


def normalise(path: str) -> str:
    """Return `path` in NFC, the form that versions store."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def problem(path: str) -> str | None:
    """Return why `path` cannot be in a version, or None."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    segments = path.split("/")
    checks = (
        (not path or path.startswith("/"), "it is not a relative path"),
        (
            size > MAX_PATH or any(len(segment.encode()) > MAX_SEGMENT for segment in segments),
            f"it is longer than {MAX_PATH} bytes, or a name longer than {MAX_SEGMENT}",
        ),
        (any(segment in {"", ".", ".."} for segment in segments), "it has an empty, '.' or '..' segment"),
        (_FORBIDDEN.search(path) is not None, "it has a backslash or a control character"),
        (normalise(path) != path, "it is not in Unicode form NFC"),
        (segments[0] in RESERVED, "the name is reserved"),
    )
    return next((why for bad, why in checks if bad), None)


def check_path(path: str) -> str:
    """Return `path` if it may be in a version.

    Raises:
        Refused: it may not; the message names it and says why.
    """
    why = problem(path)
    if why is not None:
        raise Refused(f"{printable(path)}: {why}")
    return path


def printable(path: str) -> str:
    """Return a path for messages: escaped and cut, whatever it holds."""
    return ascii(path[:200])


def fold(path: str) -> str:
    """Return the form in which two paths must differ: what a file system that ignores case and form would see."""
    return (
        path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    )


def collisions(paths: Iterable[str]) -> list[str]:
    """Return a line for each clash among `paths`: equal but for case or Unicode form, or a file where a folder is."""
    seen: dict[str, str] = {}
    clashes = []
    for path in paths:
        before = len(seen)
        other = seen.setdefault(fold(path), path)
        if other == path and len(seen) == before:
            clashes.append(f"{printable(path)} occurs twice")
        elif other != path:
            clashes.append(f"{printable(path)} and {printable(other)} differ only by case or Unicode form")
    folders: dict[str, str] = {}
    for folded, path in seen.items():
        parent = folded.rpartition("/")[0]
        while parent and parent not in folders:
            folders[parent] = path
            parent = parent.rpartition("/")[0]
    for folder, path in folders.items():
        if folder in seen:
            clashes.append(f"{printable(seen[folder])} is a file, and {printable(path)} needs a folder there")
    return clashes


def refuse(problems: Iterable[str]) -> None:
    """Raise `Refused` naming the first problems, if there are any."""
    found = list(problems)
    if found:
        more = f"\n… and {len(found) - MAX_REPORTED} more" if len(found) > MAX_REPORTED else ""
        raise Refused("\n".join(found[:MAX_REPORTED]) + more, hint="rename or remove what is named")
