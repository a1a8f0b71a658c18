"""What is asked of the stack, as data: the services, their ports, and how they are run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.errors import Invalid

Port = Annotated[int, Field(ge=1, le=65_535)]


class ServiceSpec(BaseModel):
    """A service: `python -m <module>`, told where things are by `MILLRACE_…` variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    module: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
    port: int | None = Field(default=None, description="where its HTTP listens; None: it has none")
    database: bool = Field(default=True, description="it has a MongoDB database of its name")
    token: bool = Field(default=True, description="it has an API token of its own")
    grace: float = Field(default=12.0, gt=0, description="seconds between SIGTERM and SIGKILL")
    env: dict[str, str] = Field(default_factory=dict, description="further variables; never secrets")

    @property
    def prefix(self) -> str:
        """Return the prefix of its own variables, `MILLRACE_<SERVICE>`."""
        return f"MILLRACE_{self.name.upper().replace('-', '_')}"

    @property
    def database_name(self) -> str:
        """Return the name of its database."""
        return self.name.replace("-", "_")


PROVISIONER = ServiceSpec(name="provisioner", module="millrace.bus.provision", database=False, token=False, grace=3)
SERVICES = (
    ServiceSpec(name="catalog", module="catalog", port=8700),
    ServiceSpec(name="serving", module="serving", port=8701),
    ServiceSpec(name="cache-manager", module="cache_manager", port=8702),
    ServiceSpec(name="ingest", module="ingest", port=8703),
    ServiceSpec(name="trainer", module="trainer", port=8704, grace=20),
    ServiceSpec(name="drift-monitor", module="drift_monitor", port=8705),
    PROVISIONER,
)
"""The platform. Tests name smaller ones."""


LakeKind = Literal["s3", "azure"]
LAKES: dict[LakeKind, str] = {"s3": "s3", "azure": "azurite"}
"""What the lake is → the server that plays it."""


class StackConfig(BaseModel):
    """What `up` was asked; the supervisor reads it from the stack's directory. It holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    services: tuple[ServiceSpec, ...] = SERVICES
    ports: Literal["default", "auto"] = "default"
    named_ports: dict[str, Port] = Field(default_factory=dict, description="service → port that must be its own")
    servers: tuple[str, ...] = ("nats", "mongo", "s3", "triton", "prometheus")
    failpoints: dict[str, str] = Field(default_factory=dict, description="service → MILLRACE_FAILPOINTS")
    projects: tuple[str, ...] = ("default",)
    site: str = "nfs-a"
    site_bytes: int = Field(default=10 * 1000**3, gt=0)
    bucket: str = "millrace"
    lake: LakeKind = Field(default="s3", description="azure: Azurite stands where SeaweedFS would")
    log_level: str = "info"

    @property
    def wanted_servers(self) -> tuple[str, ...]:
        """Return the servers to start, with the one that plays the lake."""
        return tuple(LAKES[self.lake] if name == "s3" else name for name in self.servers)

    def wanted_port(self, service: ServiceSpec, environ: Mapping[str, str]) -> int | None:
        """Return the port that a service must have: named, from the environment, or its default; None: any free one.

        Raises:
            Invalid: the variable holds no port.
        """
        if service.name in self.named_ports:
            return self.named_ports[service.name]
        if text := environ.get(f"{service.prefix}_PORT"):
            if not text.isdigit() or not 0 < int(text) <= 65_535:
                raise Invalid(f"{service.prefix}_PORT is no port: {text[:20]!r}")
            return int(text)
        return None if self.ports == "auto" else service.port
