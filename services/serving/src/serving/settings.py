"""What serving is told (`MILLRACE_SERVING_…`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from millrace.settings import ServiceSettings

_HOST_PORT = r"^[A-Za-z0-9.\[\]:-]+:[0-9]{1,5}$"


class ServingSettings(ServiceSettings):
    """Settings of the serving service; sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_SERVING_", extra="ignore", frozen=True)

    port: int = Field(default=8701, ge=0, le=65_535)
    mongo_database: str = Field(default="serving", pattern=r"^[a-z0-9_-]{1,38}$")
    worker: str = Field(default="serving-0", pattern=r"^[0-9a-z][0-9a-z-]{0,63}$", description="stable over restarts")

    triton_http: str = Field(default="127.0.0.1:8000", pattern=_HOST_PORT, description="Triton's HTTP address: data")
    triton_grpc: str = Field(default="127.0.0.1:8001", pattern=_HOST_PORT, description="Triton's gRPC address: control")
    repository: Path = Field(default=Path("model-repository"), description="folder that Triton has as its repository")
    spool: Path | None = Field(default=None, description="folder for captured batches while the bus is down")

    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    max_package_bytes: int = Field(default=4 * 1024**3, gt=0)
    max_batch_size: int = Field(default=1_024, gt=0, description="rows of one inference request")
    max_in_flight: int = Field(default=512, gt=0, description="requests at Triton at once; more wait or get a 503")
    infer_seconds: float = Field(default=30.0, gt=0, description="deadline of one inference request")
    load_seconds: float = Field(default=120.0, gt=0, description="deadline of one explicit load")
    drain_seconds: float = Field(default=2.0, ge=0, description="least time between traffic shift and unload")
    sampling: float = Field(default=1.0, ge=0, le=1, description="share of requests whose rows are captured")
    capture_buffer_bytes: int = Field(default=32 * 1024 * 1024, gt=0, description="captured bytes held in memory")
    capture_spool_bytes: int = Field(default=256 * 1024 * 1024, ge=0, description="captured bytes held on disk")
