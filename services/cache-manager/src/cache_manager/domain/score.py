"""Which copy to part with first: the one whose loss would cost the least seconds for each byte that it frees."""

from __future__ import annotations

from collections.abc import Iterable

from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Entry

HALF_LIFE = 86_400.0
"""Seconds after which a use counts half."""

GIGABYTE = 1_000_000_000
GUESSED_RATE = 100_000_000.0
"""Bytes a second, for what was never measured."""

FRESH_SECONDS = 600.0
"""So long after a fill that nobody has used yet, somebody is expected to."""


def decay(seconds: float) -> float:
    """Return the factor by which uses count less after so many seconds."""
    return float(0.5 ** (seconds / HALF_LIFE))


def refetch_seconds(entry: Entry) -> float:
    """Return how long bringing it back would take: as long as last time, or a guess by its size."""
    return entry.fill_seconds or entry.bytes / GUESSED_RATE


def score(entry: Entry) -> float:
    """Return decayed uses times seconds to refetch by gigabyte; the lowest goes first."""
    return entry.heat * refetch_seconds(entry) / (max(1, entry.bytes) / GIGABYTE)


def fresh(entry: Entry) -> bool:
    """Return whether it was brought for somebody who has not come yet."""
    return entry.uses == 0 and entry.idle_seconds < FRESH_SECONDS


def order(entries: Iterable[Entry]) -> list[Entry]:
    """Return those that may go, the first to go first; what is expected to be used soon comes last."""
    idle = [entry for entry in entries if not entry.held]
    return sorted(idle, key=lambda entry: (fresh(entry), score(entry), -entry.idle_seconds, entry.id))


def victims(entries: Iterable[Entry], missing: Charge) -> list[Entry]:
    """Return the first in order that together free `missing`; none if all of them would not."""
    chosen: list[Entry] = []
    freed = Charge()
    for entry in order(entries):
        if missing.fits(freed):
            break
        chosen.append(entry)
        freed += entry.charge
    return chosen if missing.fits(freed) else []
