"""The processes of a stack as data: how each is run and when it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from millrace.bus.topology import permissions
from millrace_stack import azurite_env, http_probe, natsconf, secret_files, triton_env
from millrace_stack.addresses import Addresses
from millrace_stack.config import ServiceSpec, StackConfig
from millrace_stack.environment import ServiceEnvironment
from millrace_stack.layout import Layout
from millrace_stack.process import Command
from millrace_stack.servers import Server
from millrace_stack.servers.azurite import AzuriteServer
from millrace_stack.servers.mongo import MongoServer, MongoUser
from millrace_stack.servers.nats import NatsServer
from millrace_stack.servers.prometheus import PrometheusServer
from millrace_stack.servers.seaweed import PORTS as S3_PORTS
from millrace_stack.servers.seaweed import SeaweedServer
from millrace_stack.servers.triton import TritonServer

SERVER_PORTS: dict[str, tuple[str, ...]] = {
    "nats": ("nats",),
    "mongo": ("mongo",),
    "s3": tuple(f"s3-{name}{suffix}" for name in S3_PORTS for suffix in ("", "-grpc")),
    "azurite": ("azurite",),
    "triton": ("triton-http", "triton-grpc", "triton-metrics"),
    "prometheus": ("prometheus",),
}
"""Server → the names of the ports it opens."""

ESSENTIAL = ("nats", "mongo", "s3", "azurite")
"""Servers that services need to say anything at all; they start first."""


@dataclass(frozen=True)
class Part:
    """One supervised process. `command` may take long and raise; `probe` returns check → reason, empty when ready."""

    name: str
    kind: Literal["server", "service"]
    command: Callable[[], Command]
    probe: Callable[[], dict[str, str]]
    grace: float = 8.0
    port: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that parts are made from."""

    layout: Layout
    config: StackConfig
    ports: Mapping[str, int]
    addresses: Addresses
    environ: Mapping[str, str]

    def parts(self) -> list[Part]:
        """Return the servers that we start ourselves, then the services."""
        makers: dict[str, Callable[[], Part]] = {
            "nats": lambda: _server_part(self._nats()),
            "mongo": lambda: _server_part(self._mongo()),
            "s3": lambda: _server_part(self._s3()),
            "azurite": lambda: _server_part(self._azurite()),
            "triton": self._triton,
            "prometheus": lambda: _server_part(self._prometheus()),
        }
        servers = [makers[name]() for name in self.config.servers if name not in self.addresses.external]
        return servers + [self._service(spec) for spec in self.config.services]

    def write_mongo_uris(self) -> None:
        """Write each service's connection string; it names a port, which may be another one than last time."""
        for spec in self.config.services:
            if spec.database:
                uri = self.addresses.mongo_uri(spec.database_name, self._mongo_password(spec))
                secret_files.write(self.layout.mongo_uri(spec.name), uri)

    def nats_users(self) -> list[str]:
        """Return the names of all users of the broker."""
        return sorted(permissions(self.config.projects))

    def _nats(self) -> NatsServer:
        users = permissions(self.config.projects)
        keys = {name: secret_files.public_key(self.layout.seed(name).read_text().strip()) for name in users}
        return NatsServer(
            self.layout.data("nats"),
            self.ports["nats"],
            self.layout.log("nats"),
            users=natsconf.accounts(users, keys),
            environ=self.environ,
        )

    def _mongo(self) -> MongoServer:
        users = [
            MongoUser(spec.database_name, spec.database_name, self._mongo_password(spec))
            for spec in self.config.services
            if spec.database
        ]
        return MongoServer(
            self.layout.data("mongo"),
            self.ports["mongo"],
            self.layout.log("mongo"),
            key_file=self.layout.mongo_key,
            admin_password=self.layout.mongo_password("admin").read_text().strip(),
            users=tuple(users),
            environ=self.environ,
        )

    def _mongo_password(self, spec: ServiceSpec) -> str:
        return self.layout.mongo_password(spec.name).read_text().strip()

    def _s3(self) -> SeaweedServer:
        return SeaweedServer(
            self.layout.data("s3"),
            tuple(self.ports[name] for name in SERVER_PORTS["s3"]),
            self.layout.log("s3"),
            self.layout.s3_access_key.read_text().strip(),
            self.layout.s3_secret_key.read_text().strip(),
            buckets=(self.config.bucket,),
            environ=self.environ,
        )

    def _azurite(self) -> AzuriteServer:
        return AzuriteServer(
            self.layout.data("azurite"),
            self.ports["azurite"],
            self.layout.log("azurite"),
            self.layout.azure_key.read_text().strip(),
            lambda: azurite_env.ensure(self.layout.root / "environments", environ=self.environ),
        )

    def _prometheus(self) -> PrometheusServer:
        targets = {spec.name: f"127.0.0.1:{self.ports[spec.name]}" for spec in self.config.services if spec.port}
        if "triton" in self.config.servers:
            targets["triton"] = f"127.0.0.1:{self.ports['triton-metrics']}"
        folder, log = self.layout.data("prometheus"), self.layout.log("prometheus")
        return PrometheusServer(folder, self.ports["prometheus"], log, targets, environ=self.environ)

    def _triton(self) -> Part:
        http, grpc, metrics = (self.ports[name] for name in SERVER_PORTS["triton"])

        def command() -> Command:
            built = triton_env.ensure(self.layout.root / "environments", environ=self.environ)
            folder, log = self.layout.data("triton"), self.layout.log("triton")
            return TritonServer(folder, (http, grpc, metrics), log, built, self.layout.repository).command()

        return Part("triton", "server", command, _by_path(http, "/v2/health/ready"), grace=7.0, port=http)

    def _service(self, spec: ServiceSpec) -> Part:
        port = self.ports.get(spec.name)

        def command() -> Command:
            folder = self.layout.work(spec.name)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            argv = (sys.executable, "-m", spec.module)
            told = ServiceEnvironment(self.layout, self.config, self.ports, self.addresses, self.environ)
            return Command(spec.name, argv, cwd=folder, log=self.layout.log(spec.name), env=told.of(spec))

        def probe() -> dict[str, str]:
            return {} if port is None else http_probe.readiness(port)

        return Part(spec.name, "service", command, probe, grace=spec.grace, port=port)


def _server_part(server: Server) -> Part:
    def probe() -> dict[str, str]:
        reason = server.why_not_ready()
        return {} if reason is None else {server.name: reason}

    port = getattr(server, "port", None) or getattr(server, "ports", (None,))[0]
    return Part(server.name, "server", server.command, probe, port=port)


def _by_path(port: int, path: str) -> Callable[[], dict[str, str]]:
    def probe() -> dict[str, str]:
        reason = http_probe.why_not_ok(port, path)
        return {} if reason is None else {"http": reason}

    return probe


def prepare_folders(layout: Layout, config: StackConfig) -> None:
    """Make the folders that exist before anything runs."""
    secret_files.private(layout.root)
    folders: list[Path] = [layout.logs, layout.secrets, layout.site(config.site), layout.repository]
    for folder in [*folders, layout.root / "servers", layout.root / "work"]:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
