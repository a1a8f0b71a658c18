"""What the monitor is told (`MILLRACE_DRIFT_MONITOR_…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from millrace.settings import ServiceSettings


class DriftMonitorSettings(ServiceSettings):
    """Settings of the drift monitor; times in seconds, lengths in windows."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_DRIFT_MONITOR_", extra="ignore", frozen=True)

    port: int = Field(default=8705, ge=0, le=65_535)
    mongo_database: str = Field(default="drift_monitor", pattern=r"^[a-z0-9_-]{1,38}$")

    window_rows: int = Field(default=100, ge=10, le=1_000_000, description="captured rows of one revision per window")
    min_rows: int = Field(default=30, ge=1, description="rows below which a window says nothing")
    false_alarms_per_month: float = Field(
        default=1.0, gt=0, le=1_000, description="expected false alarms per deployment in 30 days, at most"
    )
    windows_per_month: int = Field(
        default=43_200, ge=1, description="windows that are planned for; more are examined more strictly"
    )
    min_effect: float = Field(default=0.1, ge=0, le=1, description="differences below this never alert")
    quiet_windows: int = Field(default=3, ge=1, le=1_000, description="quiet windows in a row that end an incident")

    queue_size: int = Field(default=150, ge=2, le=10_000, description="most samples of one label queue")
    queue_least: int = Field(default=20, ge=1, description="fewest samples that are worth asking for")
    gather_windows: int = Field(default=6, ge=1, description="alerting windows after which a smaller queue will do")
    cooldown_windows: int = Field(default=20, ge=0, description="windows between two requests for labels")

    pace: float = Field(default=0.1, ge=0, le=10, description="least time between two fetches of captured batches")
    lease_seconds: float = Field(default=10.0, gt=0.1, le=300, description="silence after which another process counts")
