"""A version named in Git: a small file beside the code that says which data belongs to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from millrace.errors import Invalid

SUFFIX = ".millrace"
FORMAT = "millrace-pointer/1"
MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Pointer:
    """One version of a dataset, by its commit. `files` and `bytes` are for people who read the file."""

    dataset: str
    commit: str
    tree_root: str
    project: str = "default"
    version: int = 0
    files: int = 0
    bytes: int = 0


def write(path: Path, pointer: Pointer) -> None:
    """Write a pointer file; lines are stable, so that Git shows what changed."""
    path.write_text(json.dumps({"format": FORMAT, **asdict(pointer)}, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> Pointer:
    """Return what a pointer file names.

    Raises:
        Invalid: it is no pointer file.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= MAX_BYTES else ""
        document: dict[str, Any] = json.loads(text)
        known = document.pop("format") == FORMAT
        found = Pointer(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known = False
    names = (found.dataset, found.commit, found.tree_root, found.project) if known else ()
    if not known or not all(isinstance(name, str) for name in names):
        raise Invalid(f"{path} is no pointer to a version", hint="`millrace data link DATASET` writes one")
    return found


def target_of(path: Path) -> Path:
    """Return the folder that a pointer's data belongs in: its own name without the suffix."""
    return path.with_name(path.name.removesuffix(SUFFIX))


def below(root: Path) -> Iterator[Path]:
    """Yield the pointer files below a folder, hidden folders and pulled data left out."""
    for path in sorted(root.iterdir()):
        if path.is_symlink():
            continue
        if path.is_file() and path.name.endswith(SUFFIX) and path.name != SUFFIX:
            yield path
        elif path.is_dir() and not path.name.startswith(".") and not (path / ".millrace-data").is_dir():
            yield from below(path)
