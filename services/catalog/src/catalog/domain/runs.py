"""Runs as the catalog sees them: a total state machine over what the trainer reports.

Whatever arrives, in whatever order and however often, `observe` gives an answer: a changed run, or the reason why the
fact is dropped. Terminal states never change, and a fact under a lower fence than is known is from a holder that lost
its grant.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from catalog.domain.entity import Entity
from millrace.errors import Fenced

RunState = Literal["requested", "queued", "running", "completed", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
FactKind = Literal["queued", "started", "checkpointed", "preempted", "completed", "failed", "cancelled"]
MAX_STAGES = 1_000


@dataclass(frozen=True)
class Stage:
    """A dated progress code of the run: 1xx ingestion, 2xx training, 3xx evaluation, 4xx deployment."""

    code: int
    message: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Run(Entity):
    """One training run, requested by a person or a policy, carried out by the trainer."""

    state: RunState = "requested"
    reason: str = ""
    dataset: str
    version: int
    commit: str
    site: str
    component: str
    model: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    gpus: int = 1
    priority: int = 0
    experiment: str = "default"
    mode: Literal["tree", "packs"] = "tree"
    paths: tuple[str, ...] = ()
    early: bool = False
    created_by: str
    created_at: datetime
    correlation: str = ""
    cause: str | None = None
    event: str | None = None
    attempt: int = 0
    fence: int = 0
    sequence: int = 0
    node: str | None = None
    device: str | None = None
    path: str | None = None
    cache_hit: bool | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    exit_code: int | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    latest: dict[str, float] = field(default_factory=dict)
    latest_steps: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    model_version: int | None = None

    @property
    def over(self) -> bool:
        """Return whether the run has ended."""
        return self.state in TERMINAL

    def under(self, fence: int) -> Run:
        """Return the run with a writer's fence taken into account; fences only rise.

        Raises:
            Fenced: a newer grant is in force.
        """
        if fence < self.fence:
            raise Fenced(f"run {self.id} is held under fence {self.fence}", fence=self.fence, yours=fence)
        return self if fence == self.fence else replace(self, fence=fence)

    def staged(self, stages: tuple[Stage, ...]) -> Run:
        """Return the run with new stages added in order of time; repeats are dropped."""
        known = set(self.stages)
        merged = sorted([*self.stages, *(stage for stage in stages if stage not in known)], key=lambda stage: stage.at)
        return replace(self, stages=tuple(merged[-MAX_STAGES:]))

    def measured(self, points: list[tuple[str, int, float]]) -> Run:
        """Return the run with `latest` moved to the newest step of each key."""
        latest, steps = dict(self.latest), dict(self.latest_steps)
        for name, step, value in points:
            if step >= steps.get(name, -1):
                latest[name], steps[name] = value, step
        return replace(self, latest=latest, latest_steps=steps)


@dataclass(frozen=True)
class Fact:
    """What the trainer reported about a run. `fence` 0 means that no grant was involved."""

    kind: FactKind
    sequence: int
    at: datetime
    fence: int = 0
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dropped:
    """A fact that changes nothing, and why."""

    why: str


def observe(run: Run, fact: Fact) -> Run | Dropped:
    """Return the run after `fact`, or why the fact is dropped. Total: no state and fact raise."""
    if (why := _unwanted(run, fact)) is not None:
        return Dropped(why)
    known = replace(run, sequence=fact.sequence, fence=max(run.fence, fact.fence))
    if fact.kind in TERMINAL:
        return _ended(known, fact)
    if fact.kind == "started":
        stage = Stage(200, f"started on {fact.details.get('device', 'a device')}", fact.at)
        return replace(known, state="running", reason="", started_at=fact.at, **fact.details).staged((stage,))
    if fact.kind == "checkpointed":
        return replace(known, checkpoint=fact.details)
    stage = Stage(100 if fact.kind == "queued" else 202, fact.reason or fact.kind, fact.at)
    return replace(known, state="queued", reason=fact.reason).staged((stage,))


def _unwanted(run: Run, fact: Fact) -> str | None:
    if run.over:
        return f"the run is {run.state} already"
    if fact.fence and fact.fence < run.fence:
        return f"fence {fact.fence} is lower than {run.fence}"
    if fact.sequence < run.sequence:
        return f"sequence {fact.sequence} is older than {run.sequence}"
    return None


def _ended(run: Run, fact: Fact) -> Run:
    state: Any = fact.kind
    return replace(run, state=state, reason=fact.reason, ended_at=fact.at, **fact.details)
