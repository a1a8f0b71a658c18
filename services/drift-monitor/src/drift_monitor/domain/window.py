"""A window: a fixed number of rows of one revision of one deployment, held as counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from drift_monitor.domain.baseline import Counts
from drift_monitor.domain.exemplars import Pools


@dataclass(frozen=True, slots=True)
class Pane:
    """Counts of some rows. Panes over the same edges merge by addition, in any order."""

    rows: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    first_at: int | None = None
    """Event time of the earliest row, microseconds since 1970 UTC."""
    last_at: int | None = None
    pools: Pools = field(default_factory=Pools)

    def merged(self, other: Pane) -> Pane:
        """Return the pane of both together."""
        names = {**self.counts, **other.counts}
        return Pane(
            rows=self.rows + other.rows,
            counts={name: _sum(pane.counts[name] for pane in (self, other) if name in pane.counts) for name in names},
            first_at=_extreme(min, self.first_at, other.first_at),
            last_at=_extreme(max, self.last_at, other.last_at),
            pools=self.pools.merged(other.pools),
        )


@dataclass(frozen=True, slots=True)
class Window:
    """A numbered pane; numbers rise without gaps within a deployment."""

    number: int
    deployment_revision: int
    pane: Pane = field(default_factory=Pane)

    def with_pane(self, pane: Pane) -> Window:
        """Return the window with `pane` added."""
        return replace(self, pane=self.pane.merged(pane))


def _sum(counts: Iterable[Counts]) -> Counts:
    first, *rest = counts
    return np.add(first, rest[0], dtype=np.int64) if rest else first


def _extreme(choose: Callable[[Iterable[int]], int], one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return choose(known) if known else None
