"""Putting a pulled version where it belongs: whole or not at all, and never over somebody's work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from millrace.errors import Conflict

PULLED = Path(".millrace-data") / "pulled.json"


def pulled(target: Path) -> dict[str, Any] | None:
    """Return which version a folder was pulled from, if that is known."""
    try:
        document = json.loads((target / PULLED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("commit"), str) else None


def staging(target: Path) -> Path:
    """Return where a version is put together: beside its target, under a hidden name."""
    return target.with_name(f".{target.name}.partial")


def replace(staging: Path, target: Path) -> None:
    """Put the new folder where the old one is; the old one goes once the new one stands."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    if old.exists():
        shutil.rmtree(old)


def refuse_occupied(target: Path) -> None:
    """Raise Conflict unless `target` is free, or an empty folder."""
    if occupied(target):
        raise Conflict(f"{target} is not empty", hint="name a new folder")


def publish(staging: Path, target: Path) -> None:
    """Give a whole version its name."""
    if target.is_dir():
        target.rmdir()
    staging.rename(target)


def mark_pulled(folder: Path, *, dataset: str, project: str, commit: str) -> None:
    """Write into a folder which version it is."""
    (folder / PULLED).parent.mkdir(exist_ok=True)  # a pull that was killed after this one made it
    told = {"dataset": dataset, "project": project, "commit": commit}
    (folder / PULLED).write_text(json.dumps(told) + "\n", encoding="utf-8")


def occupied(target: Path) -> bool:
    """Return whether something lies at `target`."""
    return target.exists() and (not target.is_dir() or any(target.iterdir()))
