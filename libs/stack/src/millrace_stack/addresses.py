"""Where each server is: one of ours, or one that the environment names (`MILLRACE_STACK_<SERVER>_ADDRESS`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from millrace_stack.servers import azurite

EXTERNAL = {
    "nats": "MILLRACE_STACK_NATS_ADDRESS",
    "mongo": "MILLRACE_STACK_MONGO_ADDRESS",
    "s3": "MILLRACE_STACK_S3_ADDRESS",
    "azurite": "MILLRACE_STACK_AZURE_ADDRESS",
    "triton": "MILLRACE_STACK_TRITON_ADDRESS",
}
"""Server → the variable with the address of one that already runs; it is then neither started nor stopped."""

TRITON_GRPC = "MILLRACE_STACK_TRITON_GRPC_ADDRESS"


@dataclass(frozen=True)
class Addresses:
    """The servers' addresses as services are told them."""

    nats: str
    mongo: str
    s3: str
    azure: str
    triton_http: str
    triton_grpc: str
    external: frozenset[str] = field(default_factory=frozenset)

    def mongo_uri(self, user: str, password: str) -> str:
        """Return the connection string of a user of its own database; an outside server's credentials are kept."""
        parts = urlsplit(self.mongo)
        if "mongo" in self.external:
            return urlunsplit(parts._replace(path=f"/{user}"))
        host = f"{quote(user)}:{quote(password)}@{parts.netloc}"
        return urlunsplit(("mongodb", host, f"/{user}", f"directConnection=true&authSource={user}", ""))


def addresses(ports: Mapping[str, int], environ: Mapping[str, str]) -> Addresses:
    """Return the address of every server; `ports` are those of the servers that are ours."""
    named = {server: environ[variable] for server, variable in EXTERNAL.items() if environ.get(variable)}
    return Addresses(
        nats=named.get("nats", f"nats://127.0.0.1:{ports.get('nats', 0)}"),
        mongo=named.get("mongo", f"mongodb://127.0.0.1:{ports.get('mongo', 0)}/"),
        s3=named.get("s3", f"http://127.0.0.1:{ports.get('s3-s3', 0)}"),
        azure=named.get("azurite", azurite.endpoint(ports.get("azurite", 0))),
        triton_http=named.get("triton", f"127.0.0.1:{ports.get('triton-http', 0)}"),
        triton_grpc=environ.get(TRITON_GRPC) or f"127.0.0.1:{ports.get('triton-grpc', 0)}",
        external=frozenset(named),
    )
