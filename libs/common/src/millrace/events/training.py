"""Facts about runs: training, evaluation and what came of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from millrace.events.cache import Selected
from millrace.events.envelope import EventData, GrownEventData
from millrace.events.names import Digest, ObjectKey, ResourceName, RunId

Reason = Annotated[str, StringConstraints(max_length=2_000)]


class TrainingRequested(GrownEventData):
    """A run should happen: this component, on this exact version, cached at this site."""

    TYPE: ClassVar[str] = "training.requested"
    LATER: ClassVar[tuple[str, ...]] = ("selected", "early")

    run: RunId
    dataset: ResourceName
    version: int = Field(ge=1)
    commit: Digest
    site: ResourceName
    component: ResourceName
    model: ResourceName | None = Field(default=None, description="register the result as a version of this model")
    params: dict[str, Any] = Field(default_factory=dict)
    gpus: int = Field(default=1, ge=0, le=1_024)
    priority: int = Field(default=0, ge=-100, le=100)
    experiment: ResourceName = "default"
    selected: Selected = Field(default=Selected(), description="what of the version the run reads, and in which form")
    early: bool = Field(default=False, description="it begins once the first packs are there; others follow meanwhile")


class TrainingQueued(EventData):
    """The run is recorded in the queue; `reason` says what it waits for."""

    TYPE: ClassVar[str] = "training.queued"

    run: RunId
    reason: Reason


class TrainingStarted(EventData):
    """The run's process was spawned under a grant."""

    TYPE: ClassVar[str] = "training.started"

    run: RunId
    attempt: int = Field(ge=1)
    node: str = Field(max_length=256)
    device: str = Field(max_length=256, description="`gpu:<uuid>` or `cpu:<slot>`")
    fence: int = Field(ge=1, description="fencing token of the grant; it only rises")
    commit: Digest
    site: ResourceName
    path: str = Field(max_length=4_096)
    cache_hit: bool
    lease: str = Field(max_length=320)


class TrainingCheckpointed(EventData):
    """A checkpoint is whole in the object store; a new attempt resumes from it."""

    TYPE: ClassVar[str] = "training.checkpointed"

    run: RunId
    fence: int = Field(ge=1)
    epoch: int = Field(ge=0)
    manifest: ObjectKey
    digest: Digest


class TrainingCompleted(EventData):
    """The run ended well; its model, if it made one, is registered."""

    TYPE: ClassVar[str] = "training.completed"

    run: RunId
    fence: int = Field(ge=1)
    metrics: dict[str, float] = Field(default_factory=dict)
    model: ResourceName | None = None
    model_version: int | None = Field(default=None, ge=1)
    seconds: float = Field(ge=0)


class TrainingFailed(EventData):
    """The run ended badly and is not tried again."""

    TYPE: ClassVar[str] = "training.failed"

    run: RunId
    fence: int = Field(ge=0)
    reason: Reason
    exit_code: int | None = None


class TrainingCancelled(EventData):
    """The run was stopped by a person."""

    TYPE: ClassVar[str] = "training.cancelled"

    run: RunId
    fence: int = Field(ge=0)


class TrainingPreempted(EventData):
    """The run lost its device and waits in the queue again."""

    TYPE: ClassVar[str] = "training.preempted"

    run: RunId
    fence: int = Field(ge=1)
    reason: Reason
