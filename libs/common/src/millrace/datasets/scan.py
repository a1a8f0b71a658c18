"""Finding what a folder holds, and refusing what no version may hold, with every offender named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from millrace.datasets.paths import normalise, printable, problem, refuse
from millrace.datasets.walk import Found, walk
from millrace.errors import Invalid


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file that may be pushed: its path in the version (NFC) and what the file system says."""

    path: str
    found: Found


def scan(root: Path) -> list[Scanned]:
    """Return the files below `root`, folder by folder. Empty folders are not part of a version.

    Raises:
        Refused: links, devices, pipes, sockets or bad names; the message names them.
        Invalid: the folder cannot be read.
    """
    problems: list[str] = []
    files: list[Scanned] = []
    try:
        for found in walk(root):
            path = normalise(found.path) if _unicode(found.path) else found.path
            why = problem(path) if found.regular else f"it is {found.kind}"
            if why is None:
                files.append(Scanned(path, found))
            else:
                problems.append(f"{printable(found.path)}: {why}")
    except OSError as error:
        raise Invalid(f"cannot read {printable(str(error.filename or root))}: {error.strerror}") from None
    refuse(problems)
    return files


def _unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
