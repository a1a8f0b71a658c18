"""What of a version a copy holds, and in which form: all of it or the paths that match, as files or as packs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Mode = Literal["tree", "packs"]
DIGITS = 16


@dataclass(frozen=True)
class Selection:
    """The form, and patterns of paths as in `.gitignore`; no pattern stands for everything.

    `tree` is a folder of files, which every program reads; `packs` are packs as they lie in the lake, which land much
    sooner and are read by `Dataset.open`.
    """

    mode: Mode = "tree"
    paths: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        """Return the part of a name that tells this copy of a version from others; empty for the whole tree."""
        parts: list[str] = [self.mode] if self.mode != "tree" or self.paths else []
        if self.paths:
            listed = "\n".join(sorted(set(self.paths))).encode()
            parts.append(hashlib.sha256(listed).hexdigest()[:DIGITS])
        return "-".join(parts)


WHOLE = Selection()
