"""What the application needs from outside: documents, a model server, a model repository, packages, a bus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from millrace.documents.ports import UnitOfWork
from millrace.leases.ports import Lease
from serving.domain.endpoint import Endpoint, Spec
from serving.domain.package import Golden, Signature
from serving.domain.routes import Route


class EndpointRepository(Protocol):
    """Endpoints inside one transaction."""

    async def get(self, project: str, deployment: str) -> Endpoint | None:
        """Return an endpoint, if it exists."""

    async def save(self, endpoint: Endpoint) -> Endpoint:
        """Store an endpoint whose `revision` is the one it was read with (0: new); returns it with the next one.

        Raises:
            Conflict: it was changed meanwhile.
        """


class RouteRepository(Protocol):
    """Routes inside one transaction."""

    async def get(self, project: str, deployment: str) -> Route | None:
        """Return a route, if it exists."""

    async def save(self, route: Route) -> None:
        """Store a route whose epoch is one above the stored one.

        Raises:
            Conflict: the stored epoch is another.
        """


class ServingUnitOfWork(UnitOfWork, Protocol):
    """One transaction of serving's database."""

    @property
    def endpoints(self) -> EndpointRepository:
        """Return the endpoints."""

    @property
    def routes(self) -> RouteRepository:
        """Return the routes."""

    async def guard(self, lease: Lease) -> None:
        """Let this transaction fail if `lease` is lost before it commits.

        Raises:
            Fenced: it is lost already.
        """


class Documents(Protocol):
    """Reads of serving's database outside a transaction."""

    async def endpoints(self) -> list[Endpoint]:
        """Return all endpoints."""

    async def routes(self) -> list[Route]:
        """Return all routes."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the model server says of one model: READY, LOADING, UNLOADING or UNAVAILABLE, and why."""

    state: str
    reason: str = ""

    @property
    def ready(self) -> bool:
        """Return whether the model answers."""
        return self.state == "READY"


class ModelServer(Protocol):
    """Control of the model server. Every call has a deadline; ModelServerAway says that there was no answer."""

    async def index(self) -> Mapping[str, ModelState]:
        """Return the state of every model in the repository."""

    async def load(self, backend: str) -> None:
        """Load a model, or load it again; returns when it is ready.

        Raises:
            LoadFailed: the server refused it.
        """

    async def unload(self, backend: str) -> None:
        """Unload a model; an unknown or unloaded one is no error."""

    async def ask(self, backend: str, signature: Signature, golden: Golden) -> list[float]:
        """Return the first output for the golden input, flattened."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A version folder in the model repository, whole and verified, and what it promises.

    `fresh` says that it was made just now: a model of that name that is loaded already is another one.
    """

    backend: str
    digest: str
    signature: Signature
    golden: Golden
    fresh: bool = False


class ModelRepository(Protocol):
    """The folder that the model server reads models from."""

    async def find(self, backend: str) -> Installed | None:
        """Return the version folder if it is there and whole."""

    async def install(self, spec: Spec) -> Installed:
        """Fetch the package of `spec`, verify it, and make its version folder visible by one rename.

        Raises:
            BadPackage: it breaks a rule. DamagedPackage: bytes and digest differ. Unavailable: no answer.
        """

    async def remove(self, backend: str) -> None:
        """Remove a version folder; a missing one is no error."""

    async def names(self) -> frozenset[str]:
        """Return the version folders that are there and were made by `install`; others are nobody's to remove."""


class Traffic(Protocol):
    """What the data plane knows about requests under way."""

    def in_flight(self, backend: str) -> int:
        """Return how many requests this process has at a backend model now."""


class BatchPublisher(Protocol):
    """The way of captured batches to the bus."""

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publish one batch and wait until the broker has stored it.

        Raises:
            Unavailable: it did not answer; publishing again with the same id is harmless.
        """
