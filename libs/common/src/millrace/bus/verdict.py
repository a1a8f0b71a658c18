"""What becomes of a delivery whose handling raised an error."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.bus.topology import ATTEMPTS
from millrace.errors import MillraceError

SHORTEST_DELAY = 0.2
LONGEST_DELAY = 300.0
UNFORESEEN_ATTEMPTS = 5
"""Deliveries of an event whose handler raised something that nobody foresaw: a defect seldom goes away."""


@dataclass(frozen=True)
class Retry:
    """Deliver again after `delay` seconds."""

    delay: float


@dataclass(frozen=True)
class Refuse:
    """Copy to the dead-letter stream, for this reason."""

    reason: str


def delay_after(delivered: int) -> float:
    """Return the pause after the n-th delivery: 0.2, 0.4, 0.8 … at most 300 seconds."""
    return min(SHORTEST_DELAY * 2.0 ** min(delivered - 1, 30), LONGEST_DELAY)


def judge(error: BaseException, delivered: int, *, attempts: int = ATTEMPTS) -> Retry | Refuse:
    """Return the verdict on the `delivered`-th delivery.

    Transient errors of ours, lost connections and timeouts are retried up to `attempts` times; our other errors are
    final; errors of any other kind get `UNFORESEEN_ATTEMPTS`.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MillraceError) and not error.transient:
        return Refuse(f"{error.code}: {error.message}")
    foreseen = isinstance(error, (MillraceError, ConnectionError, TimeoutError))
    limit = attempts if foreseen else min(UNFORESEEN_ATTEMPTS, attempts)
    if delivered >= limit:
        return Refuse(f"given up after {delivered} deliveries: {text}")
    return Retry(delay_after(delivered))
