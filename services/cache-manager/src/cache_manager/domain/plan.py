"""What an entry needs next, as a pure function of what is remembered and for how long nothing has changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cache_manager.domain.entry import Entry
from cache_manager.domain.states import FILLING, PUBLISHED, State


class Step(StrEnum):
    """The next piece of work on an entry."""

    QUEUE = "queue"
    FILL = "fill"
    REPAIR = "repair"
    WITHDRAW = "withdraw"
    EVICT = "evict"
    TRASH = "trash"
    DELETE = "delete"


@dataclass(frozen=True)
class Patience:
    """How long things may rest, in seconds: `grace` in the trash, `first_retry` doubling up to `last_retry`."""

    grace: float = 120.0
    first_retry: float = 1.0
    last_retry: float = 300.0
    attempts: int = 5

    def backoff(self, attempts: int) -> float:
        """Return the pause after the given number of failed attempts."""
        return float(min(self.last_retry, self.first_retry * 2 ** max(0, min(attempts, 30) - 1)))


def next_step(entry: Entry, unchanged: float, patience: Patience) -> Step | None:
    """Return what `entry` needs, None when it rests. `unchanged`: seconds since its revision rose, as seen here."""
    if entry.state is State.EVICTING:
        return Step.TRASH
    if entry.state is State.REPAIRING and (entry.desired == "present" or entry.held):
        return Step.REPAIR if unchanged >= _pause(entry, patience) else None
    if entry.desired == "absent" and not (entry.state in FILLING and entry.leases):
        return _going(entry, unchanged, patience)
    if entry.state in FILLING:  # one that is to go is filled on for the runs that read it already
        return Step.FILL if unchanged >= _pause(entry, patience) else None
    if entry.state is State.FAILED:
        due = entry.retry_at is not None and unchanged >= patience.last_retry
        return Step.QUEUE if due else None
    return Step.QUEUE if entry.state in {State.ABSENT, State.TRASHED} else None


def _going(entry: Entry, unchanged: float, patience: Patience) -> Step | None:
    if entry.state in FILLING or entry.state is State.FAILED:
        return Step.WITHDRAW
    if entry.state in PUBLISHED:
        return None if entry.held else Step.EVICT
    if entry.state is State.TRASHED:
        return Step.DELETE if unchanged >= patience.grace else None
    return None


def _pause(entry: Entry, patience: Patience) -> float:
    return patience.backoff(entry.attempts) if entry.attempts else 0.0
