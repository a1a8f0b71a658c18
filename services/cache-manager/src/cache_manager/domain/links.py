"""How fast a site is: moving averages of what was measured; what people say counts until there is enough of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Measure = Literal["lake", "read", "open", "own_read", "own_open"]
"""`own_…`: as the cache manager itself sees the site; counts where no compute node has measured enough."""

ENOUGH = 3
"""Samples from which a measurement counts more than a label."""

WEIGHT = 0.3
"""Part of a new sample in the average."""

DEFAULTS: dict[Measure, float] = {"lake": 100e6, "read": 100e6, "open": 0.001, "own_read": 100e6, "own_open": 0.001}
"""Bytes a second from the lake and to the compute nodes, and seconds to open a file, of what nobody knows."""


@dataclass(frozen=True)
class Rate:
    """One measure: its average, of how many samples, and what people say it is."""

    value: float = 0.0
    samples: int = 0
    label: float | None = None

    def best(self, default: float) -> float:
        """Return the average of three samples or more, else the label, else what samples there are, else `default`."""
        if self.samples >= ENOUGH:
            return self.value
        return self.label or (self.value if self.samples else default)


@dataclass(frozen=True)
class Links:
    """A site's measures: from the lake, to the compute nodes (bytes a second), and opening a file there (seconds)."""

    lake: Rate = field(default_factory=Rate)
    read: Rate = field(default_factory=Rate)
    open: Rate = field(default_factory=Rate)
    own_read: Rate = field(default_factory=Rate)
    own_open: Rate = field(default_factory=Rate)

    def fetch_seconds(self, size: int) -> float:
        """Return how long bytes take from the lake."""
        return size / self.lake.best(DEFAULTS["lake"])

    def run_seconds(self, size: int, opens: int) -> float:
        """Return how long a run takes to read so many bytes in so many files, once."""
        rate, opening = _nearer(self.read, self.own_read), _nearer(self.open, self.own_open)
        return size / rate.best(DEFAULTS["read"]) + opens * opening.best(DEFAULTS["open"])


def _nearer(nodes: Rate, own: Rate) -> Rate:
    """Return what compute nodes measured, or what was measured here as long as they have not measured enough."""
    return own if nodes.samples < ENOUGH <= own.samples else nodes
