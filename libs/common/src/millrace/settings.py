"""Settings from the environment. Secrets are never values there: settings name the files that hold them.

Shared by all services: `MILLRACE_NATS_URL`, `MILLRACE_CATALOG_URL`, `MILLRACE_S3_ENDPOINT`, … Own to a service:
`MILLRACE_<SERVICE>_PORT`, `MILLRACE_<SERVICE>_MONGO_URI_FILE`, `MILLRACE_<SERVICE>_NATS_SEED_FILE`,
`MILLRACE_<SERVICE>_TOKEN_FILE`, …
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from millrace.errors import Invalid

MAX_SECRET_BYTES = 64 * 1024


class SharedSettings(BaseSettings):
    """What every service is told alike (`MILLRACE_…`)."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", extra="ignore", frozen=True)

    environment: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")] = "dev"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str | None = Field(default=None, description="OTLP/HTTP collector; none: spans only number the logs")
    nats_url: str = "nats://127.0.0.1:4222"
    catalog_url: str = "http://127.0.0.1:8700"
    serving_url: str = "http://127.0.0.1:8701"
    cache_manager_url: str = "http://127.0.0.1:8702"
    ingest_url: str = "http://127.0.0.1:8703"
    trainer_url: str = "http://127.0.0.1:8704"
    drift_monitor_url: str = "http://127.0.0.1:8705"
    lake: Literal["s3", "azure", "gcs"] = Field(default="s3", description="what kind of object store the lake is")
    s3_endpoint: str = "http://127.0.0.1:8333"
    s3_public_endpoint: str | None = Field(default=None, description="endpoint in presigned URLs, if it differs")
    s3_bucket: str = "millrace"
    s3_region: str = "us-east-1"
    s3_access_key_file: Path | None = None
    s3_secret_key_file: Path | None = None
    azure_account: str | None = Field(default=None, description="name of the storage account")
    azure_container: str = "millrace"
    azure_key_file: Path | None = None
    azure_endpoint: str | None = Field(default=None, description="blob service, if not <account>.blob.core.windows.net")
    azure_public_endpoint: str | None = Field(default=None, description="endpoint in signed URLs, if it differs")
    gcs_bucket: str = "millrace"
    gcs_key_file: Path | None = Field(default=None, description="a service account's key, JSON")
    gcs_location: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{2,40}$")] | None = Field(
        default=None, description="where the bucket is made if it is missing; none: it must exist"
    )
    gcs_endpoint: str | None = Field(default=None, description="if not https://storage.googleapis.com")
    gcs_public_endpoint: str | None = Field(default=None, description="endpoint in signed URLs, if it differs")

    @property
    def lake_bucket(self) -> str:
        """Return the name of the lake's bucket; Azure calls it a container."""
        return {"s3": self.s3_bucket, "azure": self.azure_container, "gcs": self.gcs_bucket}[self.lake]

    @property
    def lake_scheme(self) -> Literal["s3", "az", "gs"]:
        """Return how URIs of places in the lake begin."""
        schemes: dict[str, Literal["s3", "az", "gs"]] = {"s3": "s3", "azure": "az", "gcs": "gs"}
        return schemes[self.lake]


class ServiceSettings(BaseSettings):
    """What one service is told (`MILLRACE_<SERVICE>_…`). Subclasses set `env_prefix` and a default `port`."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65_535)
    mongo_uri_file: Path | None = None
    mongo_database: str = Field(pattern=r"^[a-z0-9_-]{1,38}$")
    nats_seed_file: Path | None = None
    token_file: Path | None = Field(default=None, description="the service's own API token")

    @property
    def mongo_uri(self) -> SecretStr:
        """Return the connection string, which may hold a password; a local server without one by default."""
        if self.mongo_uri_file is None:
            return SecretStr("mongodb://127.0.0.1:27017/?directConnection=true")
        return read_secret(self.mongo_uri_file)

    @property
    def token(self) -> SecretStr:
        """Return the service's own API token."""
        if self.token_file is None:
            raise Invalid("no token file is configured", hint="set MILLRACE_<SERVICE>_TOKEN_FILE")
        return read_secret(self.token_file)


def read_secret(path: Path) -> SecretStr:
    """Return the stripped text of a secret file.

    Raises:
        Invalid: the file is missing, too large, or readable by everybody.
    """
    try:
        info = path.stat()
        if info.st_mode & stat.S_IROTH:
            raise Invalid(f"secret file {path} is readable by everybody", hint=f"chmod 600 {path}")
        if info.st_size > MAX_SECRET_BYTES:
            raise Invalid(f"secret file {path} is too large")
        return SecretStr(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise Invalid(f"cannot read secret file {path}: {error.strerror}") from None


def explain(error: ValidationError) -> str:
    """Return a validation error of settings as lines for a person, without the values."""
    problems = error.errors(include_url=False, include_input=False)
    return "\n".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in problems)
