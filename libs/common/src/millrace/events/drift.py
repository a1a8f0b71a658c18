"""Facts about watched models, and about the labels that are asked for."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from millrace.events.envelope import EventData
from millrace.events.names import Digest, ObjectKey, ResourceName


class TestResult(BaseModel):
    """One test that fired."""

    __test__ = False
    model_config = ConfigDict(frozen=True, extra="ignore")

    feature: Annotated[str, StringConstraints(max_length=128)]
    test: Annotated[str, StringConstraints(max_length=32)]
    statistic: float
    p_value: float = Field(ge=0, le=1)
    effect: float


class _Incident(EventData):
    incident: str = Field(max_length=128)
    deployment: ResourceName
    revision: int = Field(ge=1)
    model: ResourceName
    version: int = Field(ge=1)
    dataset: ResourceName
    commit: Digest = Field(description="the dataset commit that trained the model: what the windows are compared with")


class DriftDetected(_Incident):
    """Live inputs or predictions left the reference of the model's own training data."""

    TYPE: ClassVar[str] = "drift.detected"

    window: int = Field(ge=0, description="number of the window that opened the incident")
    rows: int = Field(ge=1)
    tests: tuple[TestResult, ...] = Field(max_length=64)


class DriftResolved(_Incident):
    """Windows are quiet again."""

    TYPE: ClassVar[str] = "drift.resolved"

    quiet_windows: int = Field(ge=1)


class LabelsRequested(_Incident):
    """A queue of samples waits for people."""

    TYPE: ClassVar[str] = "labels.requested"

    queue: str = Field(max_length=128)
    count: int = Field(ge=1)
    random: int = Field(ge=0, description="chosen at random: the unbiased control")
    margin: int = Field(ge=0, description="chosen by smallest margin: the most informative")
    items: ObjectKey = Field(description="key of the list of prediction ids and sample digests")


class LabelsSubmitted(EventData):
    """People answered; `complete` once the whole queue is."""

    TYPE: ClassVar[str] = "labels.submitted"

    queue: str = Field(max_length=128)
    incident: str = Field(max_length=128)
    dataset: ResourceName
    answered: int = Field(ge=1)
    complete: bool
