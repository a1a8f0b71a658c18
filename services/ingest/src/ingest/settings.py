"""What ingest is told (`MILLRACE_INGEST_…`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_settings import SettingsConfigDict

from ingest.domain.places import Root, Zone, parse_object
from millrace.egress import AllowedHost
from millrace.events.names import Project, ResourceName
from millrace.settings import ServiceSettings, read_secret


class LandingZone(BaseModel):
    """A place that is looked at on a timer: each folder in it that holds `_SUCCESS` or `_COMPLETE.json` is a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Project = "default"
    dataset: ResourceName
    uri: str = Field(max_length=1_024, pattern=r"^(s3|az|gs)://[a-z0-9][a-z0-9.-]{1,62}/.+$")
    mode: Literal["replace", "append"] = "append"

    def zone(self) -> Zone:
        """Return it as the domain knows it."""
        return Zone(self.project, self.dataset, parse_object(self.uri), self.mode)


class MountedFolder(BaseModel):
    """A folder of the local file system that a project's data may be taken from (`*`: any project's)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f]+$", max_length=1_024)]
    project: Project | Literal["*"]

    def root(self) -> Root:
        """Return it as the domain knows it."""
        return Root(self.project, self.path)


class WebHost(BaseModel):
    """A host that data is fetched from; `*.example.org` is every name below it. See `millrace.egress`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9:\[\]][a-z0-9.:\[\]-]{0,251}$")]
    port: int | None = Field(default=None, ge=1, le=65_535)
    plain: bool = Field(default=False, description="http:// is allowed, too")
    private: bool = Field(default=False, description="its address may lie inside: on-premises stores")

    def allowed(self) -> AllowedHost:
        """Return it as the egress guard knows it."""
        return AllowedHost(self.host, self.port, self.plain, self.private)


class DicomSettings(BaseModel):
    """What a project wants done with DICOM. `private_tags` are `gggg,ee,CREATOR`; `structure_words` are lower-case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deidentify: bool = True
    documents: Literal["refuse", "drop"] = "refuse"
    private_tags: tuple[
        Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{3}[13579bdf],[0-9a-f]{2},.{1,64}$")], ...
    ] = ()
    structure_words: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{1,32}$")], ...] = ()

    def private(self) -> frozenset[tuple[int, int, str]]:
        """Return (group, last byte of the element, creator) of each private attribute that stays."""
        parts = (tag.split(",", 2) for tag in self.private_tags)
        return frozenset((int(group, 16), int(element, 16), creator) for group, element, creator in parts)


class IngestSettings(ServiceSettings):
    """Settings of ingest; sizes in bytes, times in seconds.

    `landing_zones` and `buckets` are JSON:
    `[{"dataset": "digits", "uri": "s3://factory/out/", "mode": "append"}]` and `["factory"]`. So are `folders`,
    `[{"path": "/mnt/scans", "project": "radiology"}]`, and `dicom`, by project: `{"phantoms": {"deidentify": false}}`,
    and `hosts`, `[{"host": "data.example.org"}]`.
    """

    model_config = SettingsConfigDict(env_prefix="MILLRACE_INGEST_", extra="ignore", frozen=True)

    port: int = Field(default=8703, ge=0, le=65_535)
    mongo_database: str = Field(default="ingest", pattern=r"^[a-z0-9_-]{1,38}$")
    landing_zones: tuple[LandingZone, ...] = ()
    buckets: tuple[str, ...] = Field(
        default=(), description="buckets beside the lake's in which `<project>/landing/` is taken from, too"
    )
    folders: tuple[MountedFolder, ...] = ()
    hosts: tuple[WebHost, ...] = Field(default=(), description="hosts that data is fetched from; none by default")
    web_seconds: float = Field(default=600.0, gt=0, description="longest download of one file")
    dicom: dict[Project, DicomSettings] = Field(default={}, description="what differs from the default, by project")
    pseudonym_secret_file: Path | None = Field(
        default=None, description="secret of at least 32 characters; without it DICOM is refused"
    )

    datasets: int = Field(default=2, ge=1, le=64, description="datasets that one process ingests into at once")
    takeover_seconds: float = Field(default=20.0, gt=0, description="silence after which a job is taken over")
    poll_seconds: float = Field(default=1.0, gt=0, description="longest pause of the reconciler")
    zone_seconds: float = Field(default=60.0, gt=0, description="pause between two looks at the landing zones")
    max_files: int = Field(default=1_000_000, gt=0)
    max_bytes: int = Field(default=1 << 40, gt=0, lt=2**62)
    spool_bytes: int = Field(
        default=32 << 30, gt=0, lt=2**62, description="local disk for one job: unpacked and de-identified files"
    )
    spool_folder: Path | None = Field(default=None, description="where that disk is; the system's folder by default")
    dicom_bytes: int = Field(default=512 << 20, gt=0, lt=2**32, description="largest DICOM file; it is read whole")
    rebases: int = Field(default=10, ge=1, description="times a version is built anew because the head moved")
    first_retry_seconds: float = Field(default=1.0, gt=0)
    last_retry_seconds: float = Field(default=60.0, gt=0)

    @property
    def pseudonym_secret(self) -> SecretStr | None:
        """Return the secret that pseudonyms are made with, or None."""
        return None if self.pseudonym_secret_file is None else read_secret(self.pseudonym_secret_file)
