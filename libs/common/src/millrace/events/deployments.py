"""Facts about endpoints: what should serve, and what does."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from millrace.events.envelope import EventData
from millrace.events.names import Digest, ObjectKey, ResourceName

Reason = Annotated[str, StringConstraints(max_length=2_000)]


class _Revision(EventData):
    deployment: ResourceName
    revision: int = Field(ge=1, description="rises with every change of the desired state")
    model: ResourceName
    version: int = Field(ge=1)


class DeploymentRequested(_Revision):
    """An endpoint should answer with this model version, or be retired."""

    TYPE: ClassVar[str] = "deployment.requested"

    desired: Literal["present", "absent"] = "present"
    digest: Digest
    prefix: ObjectKey
    dataset: ResourceName
    commit: Digest
    reference: ObjectKey | None = None
    reason: Reason = ""


class DeploymentReady(_Revision):
    """The version is loaded, answered its golden request within tolerance, and gets the traffic."""

    TYPE: ClassVar[str] = "deployment.ready"

    digest: Digest
    dataset: ResourceName
    commit: Digest
    reference: ObjectKey | None = None
    backend_model: str = Field(max_length=128, description="the name inside Triton: `<model>.v<N>`")
    route_epoch: int = Field(ge=1)
    golden_error: float = Field(ge=0, description="largest absolute difference of the golden answer")
    seconds: float = Field(ge=0)


class DeploymentFailed(_Revision):
    """The revision could not be brought up; the one before it, if any, still serves."""

    TYPE: ClassVar[str] = "deployment.failed"

    reason: Reason


class DeploymentRolledBack(_Revision):
    """Traffic went back to an earlier revision."""

    TYPE: ClassVar[str] = "deployment.rolled_back"

    to_revision: int = Field(ge=1)
    reason: Reason


class DeploymentRetired(_Revision):
    """The revision serves no more and is unloaded."""

    TYPE: ClassVar[str] = "deployment.retired"
