"""Rules that bring versions before anybody asks: when one is committed, when a run is requested, or on a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Trigger = Literal["commit", "run", "schedule"]


@dataclass(frozen=True)
class Prefetch:
    """One rule of a project. No `dataset` means any (not on a schedule); no `site` leaves the choice to placement.

    A schedule is `every` so many seconds, or daily `at` HH:MM in UTC; it brings the dataset's newest version.
    `problem` says why it could not act when it was due last.
    """

    project: str
    name: str
    trigger: Trigger
    dataset: str | None = None
    site: str | None = None
    every: float | None = None
    at: str | None = None
    last: datetime | None = None
    created_at: datetime | None = None
    problem: str = ""

    @property
    def id(self) -> str:
        """Return `<project>.<name>`."""
        return f"{self.project}.{self.name}"

    def covers(self, trigger: Trigger, project: str, dataset: str) -> bool:
        """Return whether the rule acts on this."""
        return (self.trigger, self.project) == (trigger, project) and self.dataset in {None, dataset}

    def due(self, now: datetime) -> bool:
        """Return whether its time has come since it last acted (or was made)."""
        since = self.last or self.created_at
        if self.trigger != "schedule" or since is None:
            return False
        if self.every is not None:
            return self.last is None or now - self.last >= timedelta(seconds=self.every)
        hour, _, minute = (self.at or "").partition(":")
        today = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
        latest = today if today <= now else today - timedelta(days=1)
        return since < latest
