"""Deployments: what should serve (ours to say) and what does (what serving reported)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from catalog.domain.entity import Entity, key

ObservedState = Literal["pending", "ready", "failed", "rolled-back", "retired"]


@dataclass(frozen=True)
class Desired:
    """The wish: this model version, or nothing. `revision` rises with every change of it."""

    revision: int
    presence: Literal["present", "absent"]
    model: str
    version: int
    digest: str
    prefix: str
    dataset: str
    commit: str
    reference: str | None
    reason: str
    by: str
    at: datetime
    cause: str | None = None


@dataclass(frozen=True)
class Observed:
    """What serving reported last. `serving` is the revision that answers now, if any does."""

    state: ObservedState = "pending"
    revision: int = 0
    sequence: int = 0
    serving: int | None = None
    serving_model: str | None = None
    serving_version: int | None = None
    backend_model: str | None = None
    route_epoch: int | None = None
    golden_error: float | None = None
    seconds: float | None = None
    reason: str = ""
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Deployment(Entity):
    """A named endpoint."""

    name: str
    desired: Desired
    observed: Observed = Observed()
    history: tuple[Desired, ...] = ()
    created_at: datetime

    def wanting(self, desired: Desired) -> Deployment:
        """Return the deployment with a new wish; the last hundred are kept."""
        return replace(self, desired=desired, history=(*self.history, self.desired)[-100:])

    def wants(self, model: str, version: int) -> bool:
        """Return whether this model version is the wish already."""
        wish = self.desired
        return wish.presence == "present" and (wish.model, wish.version) == (model, version)

    @property
    def settled(self) -> bool:
        """Return whether serving has answered the newest wish."""
        done = {"present": ("ready", "failed", "rolled-back"), "absent": ("retired",)}[self.desired.presence]
        return self.observed.revision == self.desired.revision and self.observed.state in done

    def compared(self) -> tuple[str, int] | None:
        """Return the model and version that a newcomer must beat: what serves, else what should."""
        if self.desired.presence == "absent":
            return None
        if self.observed.serving_model and self.observed.serving_version:
            return self.observed.serving_model, self.observed.serving_version
        return self.desired.model, self.desired.version

    def observing(self, seen: Observed) -> Deployment | None:
        """Return the deployment after a report, or None when something newer is known already."""
        mine = self.observed
        if seen.state == "retired" and self.desired.presence == "absent":
            gone = seen.revision in (self.desired.revision, mine.serving)
            return replace(self, observed=replace(seen, revision=self.desired.revision)) if gone else None
        if seen.revision < mine.revision or (seen.revision == mine.revision and seen.sequence < mine.sequence):
            return None
        if seen.state == "retired" and seen.revision < self.desired.revision:
            return None
        return replace(self, observed=seen)


def deployment_id(project: str, name: str) -> str:
    """Return the id of a deployment."""
    return key(project, name)
