"""Settings of the catalog: `MILLRACE_CATALOG_…`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from catalog.application.sweeping import SHORTEST_SETTLE
from millrace.errors import Invalid
from millrace.settings import ServiceSettings, read_secret

MIN_PEPPER = 16


class CatalogSettings(ServiceSettings):
    """What the catalog is told."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_CATALOG_", extra="ignore", frozen=True)

    port: int = Field(default=8700, ge=0, le=65_535)
    mongo_database: str = Field(default="catalog", pattern=r"^[a-z0-9_-]{1,38}$")
    pepper_file: Path | None = Field(default=None, description="the secret that API tokens are hashed with")
    bootstrap_file: Path | None = Field(default=None, description="JSON list of the installation's own tokens")
    master_key_file: Path | None = Field(
        default=None, description="the keys that projects' keys are wrapped with, one a line; the first wraps"
    )
    webhook_origins: tuple[str, ...] = Field(
        default=(), description="origins that may subscribe `POST /v1/events` as a webhook (Event Grid)"
    )

    gc_grace_hours: float = Field(
        default=48.0, ge=0.0, le=8_760.0, description="how long what was removed or never committed is kept at least"
    )
    gc_settle_seconds: float = Field(
        default=3_600.0,
        ge=SHORTEST_SETTLE,
        le=604_800.0,
        description="how long an object stays condemned before it is swept; longer than any transaction may last",
    )

    landing_days: float = Field(
        default=7.0,
        ge=1.0,
        le=3_650.0,
        description="how long a landing over HTTP is kept that nobody closed, or that became a version",
    )

    @property
    def master_keys(self) -> str | None:
        """Return the text of the master keys' file, None where none is configured.

        Raises:
            Invalid: the file cannot be read, or by everybody.
        """
        return None if self.master_key_file is None else read_secret(self.master_key_file).get_secret_value()

    @property
    def pepper(self) -> bytes:
        """Return the pepper.

        Raises:
            Invalid: none is configured, or it is too short to be one.
        """
        if self.pepper_file is None:
            raise Invalid("no pepper file is configured", hint="set MILLRACE_CATALOG_PEPPER_FILE")
        pepper = read_secret(self.pepper_file).get_secret_value().encode()
        if len(pepper) < MIN_PEPPER:
            raise Invalid(f"the pepper in {self.pepper_file} has fewer than {MIN_PEPPER} bytes")
        return pepper
