"""What the trainer is told (`MILLRACE_TRAINER_…`)."""

from __future__ import annotations

import platform
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from millrace.settings import ServiceSettings


def _own_name() -> str:
    name = "".join(char if char.isalnum() else "-" for char in platform.node().lower()).strip("-")
    return name[:63] or "node"


class TrainerSettings(ServiceSettings):
    """Settings of the trainer; times in seconds, sizes in bytes.

    `components` is JSON: `{"unet": ["/opt/unet/bin/python", "-m", "unet.train"]}`; argument vectors, never shell text.
    """

    model_config = SettingsConfigDict(env_prefix="MILLRACE_TRAINER_", extra="ignore", frozen=True)

    port: int = Field(default=8704, ge=0, le=65_535)
    mongo_database: str = Field(default="trainer", pattern=r"^[a-z0-9_-]{1,38}$")
    node: str = Field(
        default_factory=_own_name, pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="this machine's name"
    )
    work_folder: Path = Field(default=Path("trainer-work"), description="runs' folders and spools; this agent's alone")
    components: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="more components: name → argv")
    gpus: bool = Field(default=True, description="look for GPUs by NVML")
    cpu_slots: int | None = Field(
        default=None, ge=0, le=1_024, description="runs at once without a GPU; half the cores"
    )

    attempts: int = Field(default=3, ge=1, le=100, description="failures after which a run has failed")
    interruptions: int = Field(default=20, ge=0, le=10_000, description="restarts through no fault of the run")
    grace_seconds: float = Field(default=10.0, ge=0, description="from SIGTERM to SIGKILL")
    lease_seconds: float = Field(default=20.0, gt=1, description="silence after which a scheduler or agent is replaced")
    deadline_seconds: float = Field(default=15.0, gt=0.5, description="silence after which a process group ends itself")
    poll_seconds: float = Field(default=2.0, gt=0, description="longest pause of the scheduler")
    renew_seconds: float = Field(default=15.0, gt=0, description="pause between renewals of cache leases")
    log_lines: int = Field(default=100_000, ge=0, description="lines of one attempt's output that are kept")

    nice: int = Field(default=5, ge=0, le=19)
    memory_bytes: int | None = Field(default=None, gt=0, description="address space of a component's processes")
    file_bytes: int = Field(default=64 * 1024**3, gt=0, description="largest file a component may write")
    open_files: int = Field(default=4_096, ge=64)

    @property
    def limits(self) -> dict[str, int]:
        """Return the resource limits of components, as the launcher takes them."""
        limits = {"nice": self.nice, "core": 0, "fsize": self.file_bytes, "nofile": self.open_files}
        return limits if self.memory_bytes is None else {**limits, "as": self.memory_bytes}
