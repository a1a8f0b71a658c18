"""The policy document, validated: what cannot work is refused when it is written, not when it is needed."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, StringConstraints, model_validator

from catalog.application.values import JsonObject
from millrace.events import EVENT_CLASSES
from millrace.events.names import ResourceName

DottedField = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63}){0,4}$")]
Scalar = StrictBool | StrictInt | Annotated[StrictStr, StringConstraints(max_length=256)]

VERSION_EVENTS = frozenset({"dataset.committed"})
MODEL_EVENTS = frozenset({"model.registered", "model.promoted"})


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CacheAction(_Document):
    """Have the committed version at a site."""

    site: ResourceName


class TrainAction(_Document):
    """Train a component on the committed version; the run waits until the version is at the site."""

    component: ResourceName
    model: ResourceName | None = None
    site: ResourceName
    params: JsonObject = Field(default_factory=dict)
    gpus: int = Field(default=1, ge=0, le=1_024)
    priority: int = Field(default=0, ge=-100, le=100)
    experiment: ResourceName = "default"


class DeployAction(_Document):
    """Serve the model version under a deployment's name."""

    deployment: ResourceName


class Action(_Document):
    """Exactly one request."""

    cache: CacheAction | None = None
    train: TrainAction | None = None
    deploy: DeployAction | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.kinds) != 1:
            raise ValueError("each item of `do` is exactly one of cache, train, deploy")
        return self

    @property
    def kinds(self) -> list[str]:
        """Return the names of the requests that are set."""
        return [name for name in ("cache", "train", "deploy") if getattr(self, name) is not None]


class NotWorse(_Document):
    """Hold the requests back if the model is worse than the one deployed; `metric` is one where higher is better."""

    deployment: ResourceName
    metric: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    tolerance: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)


class PolicyDocument(_Document):
    """`on` an event `where` fields are equal, `do` these requests, once per event."""

    on: str
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    where: dict[DottedField, Scalar] = Field(default_factory=dict, max_length=16)
    unless_worse_than_deployed: NotWorse | None = None
    do: Annotated[tuple[Action, ...], Field(min_length=1, max_length=16)]
    enabled: bool = True

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.on not in {event_type for event_type, _ in EVENT_CLASSES}:
            raise ValueError(f"no event type {self.on[:80]!r}")
        kinds = {action.kinds[0] for action in self.do}
        if kinds & {"cache", "train"} and self.on not in VERSION_EVENTS:
            raise ValueError(f"cache and train need an event that names a version: {sorted(VERSION_EVENTS)}")
        if ("deploy" in kinds or self.unless_worse_than_deployed) and self.on not in MODEL_EVENTS:
            raise ValueError(f"deploy and its condition need an event that names a model: {sorted(MODEL_EVENTS)}")
        return self

    def stored(self) -> dict[str, Any]:
        """Return the document as it is kept and shown: without what was not said."""
        return self.model_dump(mode="json", exclude_none=True)


POLICY_TYPES = VERSION_EVENTS | MODEL_EVENTS
"""Event types that a policy can act on."""
