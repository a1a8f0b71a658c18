"""Facts about models in the registry."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from millrace.events.envelope import EventData
from millrace.events.names import Digest, ObjectKey, ResourceName, RunId


class ModelRegistered(EventData):
    """A model version exists; its bytes are named by digest and lie in the object store."""

    TYPE: ClassVar[str] = "model.registered"

    model: ResourceName
    version: int = Field(ge=1)
    digest: Digest = Field(description="BLAKE3 over the package's sorted file list")
    prefix: ObjectKey = Field(description="key prefix of the package")
    run: RunId
    dataset: ResourceName
    dataset_version: int = Field(ge=1)
    commit: Digest = Field(description="the dataset commit that trained it")
    framework: Annotated[str, StringConstraints(max_length=64)]
    metrics: dict[str, float] = Field(default_factory=dict)
    reference: ObjectKey | None = Field(default=None, description="key of the drift reference made by evaluation")


class ModelPromoted(EventData):
    """An alias names another version now."""

    TYPE: ClassVar[str] = "model.promoted"

    model: ResourceName
    version: int = Field(ge=1)
    alias: ResourceName
    previous: int | None = Field(default=None, ge=1)
