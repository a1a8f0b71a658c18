"""What a check found wrong. It names places, never values: what a cell holds may be a patient's."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN = 3

Verdict = list[tuple[str, tuple[str, ...]]]
"""Reasons, and places of each."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One check that a version fails: its name, why, and a few places where."""

    check: str
    reason: str
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        places = f" ({', '.join(self.where)})" if self.where else ""
        return f"{self.check}: {self.reason}{places}"


def outside(value: float, minimum: float | None, maximum: float | None) -> str | None:
    """Return which bound `value` breaks, in words, or None."""
    if minimum is not None and value < minimum:
        return f"less than {minimum:g}"
    if maximum is not None and value > maximum:
        return f"more than {maximum:g}"
    return None
