"""What ingest is told (`MILLRACE_INGEST_…`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from ingest.domain.places import Zone, parse
from millrace.events.names import Project, ResourceName
from millrace.settings import ServiceSettings


class LandingZone(BaseModel):
    """A place that is looked at on a timer: each folder in it that holds `_SUCCESS` or `_COMPLETE.json` is a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Project = "default"
    dataset: ResourceName
    uri: str = Field(max_length=1_024, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,62}/.+$")
    mode: Literal["replace", "append"] = "append"

    def zone(self) -> Zone:
        """Return it as the domain knows it."""
        return Zone(self.project, self.dataset, parse(self.uri), self.mode)


class IngestSettings(ServiceSettings):
    """Settings of ingest; sizes in bytes, times in seconds.

    `landing_zones` and `buckets` are JSON:
    `[{"dataset": "digits", "uri": "s3://factory/out/", "mode": "append"}]` and `["factory"]`.
    """

    model_config = SettingsConfigDict(env_prefix="MILLRACE_INGEST_", extra="ignore", frozen=True)

    port: int = Field(default=8703, ge=0, le=65_535)
    mongo_database: str = Field(default="ingest", pattern=r"^[a-z0-9_-]{1,38}$")
    landing_zones: tuple[LandingZone, ...] = ()
    buckets: tuple[str, ...] = Field(
        default=(), description="buckets beside the lake's in which `<project>/landing/` is taken from, too"
    )

    datasets: int = Field(default=2, ge=1, le=64, description="datasets that one process ingests into at once")
    takeover_seconds: float = Field(default=20.0, gt=0, description="silence after which a job is taken over")
    poll_seconds: float = Field(default=1.0, gt=0, description="longest pause of the reconciler")
    zone_seconds: float = Field(default=60.0, gt=0, description="pause between two looks at the landing zones")
    max_files: int = Field(default=1_000_000, gt=0)
    max_bytes: int = Field(default=1 << 40, gt=0, lt=2**62)
    rebases: int = Field(default=10, ge=1, description="times a version is built anew because the head moved")
    first_retry_seconds: float = Field(default=1.0, gt=0)
    last_retry_seconds: float = Field(default=60.0, gt=0)
