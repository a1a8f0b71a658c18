"""What all documents share: an id that names the project, and a revision to compare and set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entity:
    """One document. `revision` rises by one with every stored change; a stale one is refused."""

    id: str
    project: str
    revision: int = 0


def key(*parts: str | int) -> str:
    """Return the id made of `parts`, which are names and so hold no slash: `default/digits/3`."""
    return "/".join(str(part) for part in parts)
