"""What this machine remembers of a working copy: the digests of its files, and the rate of the last sync."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TELLING_BYTES = 1024 * 1024


def cache_file(root: Path) -> Path:
    """Return where the digests of a folder's files are remembered: on this machine, never on the folder's own disk."""
    from blake3 import blake3

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "millrace" / "stat" / f"{blake3(str(root).encode()).hexdigest()[:32]}.sqlite"


def remember_rate(root: Path, sent: int, seconds: float) -> None:
    """Keep the rate of a sync that sent enough to tell something; losing it costs an estimate."""
    if sent >= TELLING_BYTES and seconds > 0:
        with contextlib.suppress(OSError):
            cache_file(root).with_suffix(".rate").write_text(f"{sent / seconds:.0f}\n", encoding="utf-8")


def rate(root: Path) -> float | None:
    """Return the bytes a second of the last sync that told something."""
    try:
        return float(cache_file(root).with_suffix(".rate").read_text(encoding="utf-8")) or None
    except (OSError, ValueError):
        return None
