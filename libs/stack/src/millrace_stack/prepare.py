"""What happens before the first process of a stack runs: secrets, ports, programs, and their clear errors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from millrace.bus.topology import permissions
from millrace.errors import Conflict, Unavailable
from millrace_stack import azurite_env, binaries, libcurl, ports, secret_files, triton_env
from millrace_stack import state as states
from millrace_stack.addresses import EXTERNAL, Addresses, addresses
from millrace_stack.config import LAKES, StackConfig
from millrace_stack.layout import Layout
from millrace_stack.parts import SERVER_PORTS, Part, Plan, prepare_folders
from millrace_stack.servers import azurite

PROGRAMS = {
    "nats": binaries.NATS,
    "mongo": binaries.MONGO,
    "s3": binaries.SEAWEED,
    "prometheus": binaries.PROMETHEUS,
}


@dataclass
class Prepared:
    """A stack that is ready to be started."""

    parts: list[Part]
    ports: dict[str, int]
    urls: dict[str, str]
    programs: dict[str, Path]
    notes: list[str] = field(default_factory=list)


def prepare(layout: Layout, config: StackConfig, environ: Mapping[str, str]) -> Prepared:
    """Make folders and secrets, find programs, and settle every port.

    Raises:
        Unavailable: a program is missing or too old.
        Conflict: a port that must be ours is taken.
    """
    prepare_folders(layout, config)
    notes: list[str] = []
    servers, programs = _programs(config, environ, notes)
    config = config.model_copy(update={"servers": servers})
    services = [spec.name for spec in config.services if spec.token]
    databases = [spec.name for spec in config.services if spec.database]
    _one_lake(layout, config)
    secret_files.create(layout, services=services, databases=databases, nats_users=permissions(config.projects))
    if config.lake == "azure":
        secret_files.ensure(layout.azure_key, azurite.new_key)
    settled = _settle_ports(layout, config, environ)
    where = addresses(settled, environ)
    plan = Plan(layout, config, settled, where, environ)
    plan.write_mongo_uris()
    return Prepared(plan.parts(), settled, _urls(config, settled, where), programs, notes)


def _one_lake(layout: Layout, config: StackConfig) -> None:
    """Refuse to start beside another lake's data: versions that the catalog remembers would have no bytes.

    Raises:
        Conflict: this directory's data lie in another kind of lake.
    """
    for lake, server in LAKES.items():
        if lake != config.lake and layout.data(server).exists():
            raise Conflict(
                f"the data in {layout.root} lie in a lake of kind {lake}", hint=f"`--lake {lake}`, or another --dir"
            )


def versions(prepared: Prepared, layout: Layout) -> dict[str, str]:
    """Return the versions that the programs print. Takes a moment, so it is asked beside the start."""
    found = {}
    for server, path in prepared.programs.items():
        env = {"PATH": os.defpath}
        if server == "mongo" and (library := libcurl.library_path(path, layout.data("mongo") / "lib")):
            env["LD_LIBRARY_PATH"] = library
        if (parts := binaries.version(path, PROGRAMS[server].version_argument, env=env)) is not None:
            found[server] = ".".join(map(str, parts))
    if any(part.name == "triton" for part in prepared.parts):
        found["triton"] = ".".join(map(str, triton_env.VERSION))
    return found


def _programs(
    config: StackConfig, environ: Mapping[str, str], notes: list[str]
) -> tuple[tuple[str, ...], dict[str, Path]]:
    servers, programs = [], {}
    for server in config.wanted_servers:
        if server == "azurite" and not environ.get(EXTERNAL[server]) and (lacking := azurite_env.why_not(environ)):
            raise Unavailable(lacking, hint="Azurite plays the lake; Debian: apt install nodejs npm")
        program = PROGRAMS.get(server)
        if program is not None and not environ.get(EXTERNAL.get(server, "")):
            try:
                programs[server] = binaries.resolve(program, environ=environ, say=notes.append)
            except Unavailable as error:
                if server != "prometheus" or environ.get(program.variable):
                    raise
                notes.append(f"prometheus is left out: {error.message}")
                continue
        servers.append(server)
    return tuple(servers), programs


def _settle_ports(layout: Layout, config: StackConfig, environ: Mapping[str, str]) -> dict[str, int]:
    previous = states.load(layout)
    before = {} if previous is None else previous.ports
    settled: dict[str, int] = {}
    for spec in config.services:
        if spec.port is not None:
            wanted = config.wanted_port(spec, environ)
            settled[spec.name] = _any_port(before.get(spec.name)) if wanted is None else _this_port(wanted, spec.name)
    for server in config.servers:
        if not environ.get(EXTERNAL.get(server, "")):
            settled.update({name: _any_port(before.get(name)) for name in SERVER_PORTS[server]})
    return settled


def _any_port(preferred: int | None) -> int:
    """Return the port of last time if it is still free, so that addresses last; else another one."""
    if preferred is not None and ports.reserve(preferred):
        return preferred
    return ports.free_ports(1)[0]


def _this_port(port: int, service: str) -> int:
    if ports.reserve(port):
        return port
    variable = f"MILLRACE_{service.upper().replace('-', '_')}_PORT"
    raise Conflict(
        f"port {port} for {service} is taken{_by_whom(port)}",
        hint=f"free it, or set {variable}, or start with `--ports auto`",
    )


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            mine = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if mine and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return ""


def _urls(config: StackConfig, settled: Mapping[str, int], where: Addresses) -> dict[str, str]:
    urls = {spec.name: f"http://127.0.0.1:{settled[spec.name]}" for spec in config.services if spec.name in settled}
    if "catalog" in urls:
        urls |= {"gateway": urls["catalog"], "console": f"{urls['catalog']}/console", "docs": f"{urls['catalog']}/docs"}
    for server in config.servers:
        if server == "triton":
            urls |= {"triton": f"http://{where.triton_http}", "triton-grpc": where.triton_grpc}
        elif server == "prometheus":
            urls["prometheus"] = f"http://127.0.0.1:{settled['prometheus']}"
        elif server == "mongo":
            urls["mongo"] = f"mongodb://127.0.0.1:{settled['mongo']}" if "mongo" in settled else "outside"
        else:
            urls[server] = {"nats": where.nats, "s3": where.s3, "azurite": where.azure}[server]
    return urls
