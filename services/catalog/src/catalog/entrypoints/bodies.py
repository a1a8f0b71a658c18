"""Request bodies, held to what can be stored and sent on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from catalog.application.values import JsonObject, check_json
from millrace.datasets.patterns import Pattern
from millrace.events import Lineage
from millrace.events.names import Digest, ObjectKey, Project, ResourceName, RunId

Safe = AfterValidator(check_json)
Count = Annotated[int, Field(ge=0, le=2**53)]
Fence = Annotated[int, Field(ge=1, le=2**53)]
Text = Annotated[str, StringConstraints(max_length=2_000), Safe]
MetricKey = Annotated[str, StringConstraints(min_length=1, max_length=128), Safe]
FilePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,8}$")
]


def _no_hostile_text(value: Lineage) -> Lineage:
    check_json(value.model_dump())
    return value


class Body(BaseModel):
    """Base of all bodies: frozen, and unknown fields are refused so that a typo shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetBody(Body):
    """A dataset's description."""

    description: Text = ""


class UploadObject(Body):
    """An object that the client has and the lake may lack; `size` in bytes."""

    kind: Literal["packs", "chunks", "manifests"]
    id: Digest
    size: Annotated[int, Field(ge=0, le=2**40)] = 0


class UploadsBody(Body):
    """Objects that a client wants to upload."""

    objects: Annotated[list[UploadObject], Field(min_length=1, max_length=10_000)]
    sealed: Annotated[
        str | None, Field(pattern=r"^[0-9a-f]{16}$", description="id of the key that they are sealed with")
    ] = None


class DownloadObject(Body):
    """An object of a version."""

    kind: Literal["packs", "chunks", "manifests", "commits"]
    id: Digest


class DownloadsBody(Body):
    """Objects that a client wants to download."""

    objects: Annotated[list[DownloadObject], Field(min_length=1, max_length=10_000)]


class CommitBody(Body):
    """A new version."""

    manifest: Digest
    tree_root: Digest
    files: Count
    bytes: Count
    packs: Annotated[list[Digest], Field(max_length=100_000)] = []
    parent: Digest | None = None
    message: Text = ""
    lineage: Annotated[Lineage, AfterValidator(_no_hostile_text)] = Lineage()
    records: Annotated[Digest | None, Field(description="the table of records, which lies in the lake")] = None
    attested: Annotated[
        dict[Annotated[str, StringConstraints(max_length=100)], Digest],
        Field(max_length=64, description="check → digest of the program of the project's own that passed"),
        Safe,
    ] = {}


class ChecksBody(Body):
    """What every version of a dataset must hold; see docs/how-to/checks.md."""

    checks: Annotated[list[JsonObject], Field(max_length=64)] = []


class RunBody(Body):
    """A run to be started. `version` is a number, a commit (prefix) or `latest`."""

    dataset: ResourceName
    version: Annotated[int, Field(ge=1)] | Annotated[str, StringConstraints(max_length=64)] = "latest"
    site: ResourceName
    component: ResourceName
    model: ResourceName | None = None
    params: JsonObject = {}
    gpus: Annotated[int, Field(ge=0, le=1_024)] = 1
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    experiment: ResourceName = "default"
    mode: Annotated[
        Literal["tree", "packs"], Field(description="what the run reads: files, or packs for `Dataset.open`")
    ] = "tree"
    paths: Annotated[
        tuple[Pattern, ...], Field(max_length=64, description="only what matches, as in `.gitignore`"), Safe
    ] = ()
    early: Annotated[bool, Field(description="begin once the first packs are at the site; needs mode `packs`")] = False

    @model_validator(mode="after")
    def _packs_come_early(self) -> Self:
        if self.early and self.mode != "packs":
            raise ValueError("only packs can be read while they are fetched: `early` needs mode `packs`")
        return self


class MetricPoint(Body):
    """One value; what is not finite is sent as the text NaN, Infinity or -Infinity."""

    key: MetricKey
    step: Count
    value: float
    at: AwareDatetime | None = None


class MetricsBody(Body):
    """Values measured under a fence."""

    fence: Fence
    points: Annotated[list[MetricPoint], Field(min_length=1, max_length=5_000)]


class LogLineBody(Body):
    """One line of output, without its newline."""

    at: AwareDatetime
    stream: Literal["stdout", "stderr"] = "stdout"
    line: Annotated[str, StringConstraints(max_length=65_536)]


class LogsBody(Body):
    """Lines written under a fence; `offset` is the number of the first one."""

    fence: Fence
    offset: Count
    lines: Annotated[list[LogLineBody], Field(min_length=1, max_length=5_000)]


class StageBody(Body):
    """A dated progress code: 1xx ingestion, 2xx training, 3xx evaluation, 4xx deployment."""

    code: Annotated[int, Field(ge=100, le=499)]
    message: Annotated[str, StringConstraints(max_length=500), Safe] = ""
    at: AwareDatetime | None = None


class StagesBody(Body):
    """Stages reached under a fence."""

    fence: Fence
    stages: Annotated[list[StageBody], Field(min_length=1, max_length=100)]


class PackageFileBody(Body):
    """One file of a model package."""

    path: FilePath
    digest: Digest
    size: Count


class ModelVersionBody(Body):
    """A model package that a run made."""

    run: RunId
    fence: Fence
    digest: Digest
    uri: Annotated[str, StringConstraints(max_length=1_024), Safe] = ""
    files: Annotated[list[PackageFileBody], Field(min_length=1, max_length=1_000)]
    framework: Annotated[str, StringConstraints(max_length=64), Safe] = "keras"
    signature: JsonObject = {}
    metrics: dict[MetricKey, Annotated[float, Field(allow_inf_nan=False)]] = {}
    dataset: ResourceName
    version: Annotated[int, Field(ge=1)]
    commit: Digest
    reference: ObjectKey | None = None


class AliasBody(Body):
    """The version that an alias should name: a number, another alias, or `latest`."""

    version: Annotated[int, Field(ge=1, le=2**31)] | Annotated[str, StringConstraints(max_length=64)]


class DeploymentBody(Body):
    """The model version that should serve: a number, an alias, or `latest`."""

    model: ResourceName
    version: Annotated[int, Field(ge=1, le=2**31)] | Annotated[str, StringConstraints(max_length=64)] = "latest"


class TokenBody(Body):
    """A token to be made. `project` is `*` for every project."""

    principal: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._:-]{0,127}$")]
    kind: Literal["person", "service", "token"] = "token"
    project: Project | Literal["*"] | None = None
    roles: Annotated[list[str], Field(min_length=1, max_length=16)]
    scopes: Annotated[list[str], Field(max_length=64)] | None = None
    description: Annotated[str, StringConstraints(max_length=500), Safe] = ""
    days: Annotated[int, Field(ge=1, le=3_650)] | None = None


class IntrospectBody(Body):
    """A token that a service was shown."""

    token: Annotated[str, StringConstraints(max_length=512)]


def moment(value: datetime | None, now: datetime) -> datetime:
    """Return the given time, or now."""
    return value or now


def plain(value: Any) -> dict[str, Any]:
    """Return a model as a dictionary without what was not said."""
    dumped: dict[str, Any] = value.model_dump(mode="json", exclude_none=True)
    return dumped
