"""What the cache manager is told (`MILLRACE_CACHE_MANAGER_…`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from cache_manager.application.sites import DEFAULT_INODES, MAX_AGE
from millrace.events.names import Project, ResourceName
from millrace.settings import ServiceSettings


class SiteSetting(BaseModel):
    """A site: an absolute directory, and how much may lie there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: ResourceName
    path: str = Field(min_length=2, max_length=1_024)
    capacity_bytes: int = Field(gt=0, lt=2**62)
    capacity_inodes: int = Field(default=DEFAULT_INODES, gt=0, lt=2**62)
    age_out_seconds: float | None = Field(default=None, gt=0, le=MAX_AGE)


class Prefetch(BaseModel):
    """Every new version of a dataset is cached at a site as soon as it is committed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Project = "default"
    dataset: ResourceName
    site: ResourceName


class CacheManagerSettings(ServiceSettings):
    """Settings of the cache manager; times in seconds.

    `sites` is JSON: `[{"site": "nfs-a", "path": "/mnt/nfs-a", "capacity_bytes": 1000000000000}]`.
    """

    model_config = SettingsConfigDict(env_prefix="MILLRACE_CACHE_MANAGER_", extra="ignore", frozen=True)

    port: int = Field(default=8702, ge=0, le=65_535)
    mongo_database: str = Field(default="cache_manager", pattern=r"^[a-z0-9_-]{1,38}$")
    sites: tuple[SiteSetting, ...] = ()
    prefetch: tuple[Prefetch, ...] = ()

    fills: int = Field(default=4, ge=1, le=64, description="entries that one process works on at once")
    transfers: int = Field(default=3, ge=1, le=64, description="packs of one fill in flight; each takes up to 48 MiB")
    takeover_seconds: float = Field(
        default=20.0, gt=0, description="silence after which a worker's entry is taken over"
    )
    lease_seconds: float = Field(default=90.0, gt=0, description="silence after which a run's lease ends")
    grace_seconds: float = Field(
        default=120.0, ge=0, description="time in the trash: at least the mounts' attribute cache"
    )
    age_out_seconds: float = Field(default=86_400.0, gt=0, description="unused for so long, an entry is evicted")
    age_step_seconds: float = Field(default=30.0, gt=0)
    high_mark: float = Field(default=0.9, gt=0, le=1, description="part of a site above which pressure evicts")
    low_mark: float = Field(default=0.8, gt=0, le=1, description="part of a site down to which it does")
    sweep_seconds: float = Field(default=600.0, gt=0)
    probe_seconds: float = Field(default=600.0, gt=0, description="pause between measurements of the sites")
    scrub_seconds: float = Field(default=7 * 86_400.0, gt=0, description="every byte is read again this often")
    sample_seconds: float = Field(default=3_600.0, gt=0, description="a part of each copy is read again this often")
    scrub_bytes_per_second: float = Field(
        default=50e6, gt=0, description="at most; a tenth of the link is a good value"
    )
    poll_seconds: float = Field(default=1.0, gt=0, description="longest pause of the reconciler")
    first_retry_seconds: float = Field(default=1.0, gt=0)
    last_retry_seconds: float = Field(default=300.0, gt=0)
