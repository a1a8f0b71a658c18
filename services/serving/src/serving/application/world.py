"""What this process knows now: the routes in force, the endpoints behind them, and what the model server says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from serving.application.ports import Documents, ModelServer, ModelState
from serving.domain.endpoint import Endpoint, Spec
from serving.domain.routes import RouteTable


class World:
    """The last knowledge. Documents and server may be away: what was read last stays in force.

    `table` is replaced by one assignment, so the data plane reads it without a lock.
    """

    def __init__(self) -> None:
        self.table = RouteTable()
        self.endpoints: tuple[Endpoint, ...] = ()
        self.models: Mapping[str, ModelState] = MappingProxyType({})
        self.table_read = False
        self.server_answers = False
        self.broken: set[str] = set()
        """Models whose process died while the server calls them ready: found by a request, mended by a fresh load."""

    async def read_documents(self, documents: Documents) -> None:
        """Read routes and endpoints; a route never goes back to a lower epoch."""
        routes, endpoints = await documents.routes(), await documents.endpoints()
        self.table = self.table.advanced_by(routes)
        self.endpoints = tuple(endpoints)
        self.table_read = True

    async def read_server(self, server: ModelServer) -> None:
        """Ask the model server for the state of its models."""
        self.server_answers = False
        self.models = await server.index()
        self.server_answers = True

    def ready(self, backend: str) -> bool:
        """Return whether the model server said last that it answers for `backend`."""
        state = self.models.get(backend)
        return self.server_answers and state is not None and state.ready and backend not in self.broken

    def routed(self) -> list[Spec]:
        """Return the revisions that the routes name, with what is needed to load them."""
        named = self.table.backend_models()
        specs = [spec for e in self.endpoints for spec in (e.serving, *e.draining) if spec and spec.backend in named]
        return list({spec.backend: spec for spec in specs}.values())

    def waits(self) -> list[str]:
        """Return the routed backends that do not answer: what keeps this service from being ready."""
        return sorted(name for name in self.table.backend_models() if not self.ready(name))
