"""The leader's reconciler: what is desired is brought up, gets the traffic, and what had it is drained and unloaded.

Every step may be interrupted and begun again. The order makes that safe: a route is written only after the golden
answer, in one transaction with its event; a revision is unloaded only after no route names it; and what nobody
names is collected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.errors import Conflict, Fenced, MillraceError
from millrace.events import decode
from millrace.failpoints import fp
from millrace.leases.ports import Lease
from millrace.telemetry import span
from serving.application import outcomes
from serving.application.loading import Loader
from serving.application.ports import Documents, ModelRepository, ModelServer, Traffic
from serving.application.world import World
from serving.domain.endpoint import MAX_ATTEMPTS, MAX_REFUSALS, Endpoint, Spec
from serving.errors import BadPackage, DamagedPackage, GoldenMismatch, LoadFailed, ModelServerAway

log = structlog.get_logger(__name__)

Unit = outcomes.Unit


@dataclass(frozen=True)
class Rules:
    """Numbers that a deployment obeys."""

    drain_seconds: float = 2.0
    sampling: float = 1.0


class Deployer:
    """Converges every endpoint. One instance leads, with a lease whose token every transaction checks."""

    def __init__(
        self,
        *,
        world: World,
        documents: Documents,
        transact: Transact[Unit],
        server: ModelServer,
        repository: ModelRepository,
        loader: Loader,
        traffic: Traffic,
        check_lease: Callable[[Lease], Awaitable[None]],
        clock: Clock,
        rules: Rules,
    ) -> None:
        self._world = world
        self._documents = documents
        self._transact = transact
        self._server = server
        self._repository = repository
        self._loader = loader
        self._traffic = traffic
        self._check_lease = check_lease
        self._clock = clock
        self._rules = rules
        self._draining_since: dict[tuple[str, str, int], float] = {}

    async def step(self, lease: Lease) -> None:
        """Advance every endpoint as far as it goes now.

        Raises:
            Fenced: the lease is lost. Unavailable: documents or model server are away; the reason is recorded.
        """
        await self._world.read_documents(self._documents)
        away: ModelServerAway | None = None
        try:
            await self._world.read_server(self._server)
        except ModelServerAway as error:
            away = error
        for endpoint in self._world.endpoints:
            await self._attempt(endpoint, lease, away)
        if away is not None:
            raise away
        await self._collect(lease)

    async def _attempt(self, endpoint: Endpoint, lease: Lease, away: ModelServerAway | None) -> None:
        """Converge one endpoint; its failure must not stop the others."""
        try:
            if away is not None and endpoint.pending and endpoint.desired.present:
                await self._record(outcomes.waits(endpoint, lease, f"waits: {away.message}"))
                return
            with span("deploy", parent=decode(endpoint.cause.encode()).traceparent):
                await self._converge(endpoint, lease)
        except Fenced:
            raise
        except Conflict as error:
            log.info("endpoint changed meanwhile", deployment=endpoint.desired.deployment, reason=error.message)
        except MillraceError as error:
            log.warning("deployment waits", deployment=endpoint.desired.deployment, reason=error.message)
            await self._record(outcomes.waits(endpoint, lease, f"waits: {error.message}"))
        except Exception as error:
            log.exception("deployment step broke", deployment=endpoint.desired.deployment)
            await self._record(outcomes.waits(endpoint, lease, f"an unexpected {type(error).__name__}; the log has it"))

    async def _converge(self, endpoint: Endpoint, lease: Lease) -> None:
        if endpoint.pending and endpoint.desired.present:
            await self._bring_up(endpoint, lease)
        elif endpoint.state == "REQUESTED":
            await self._shift(endpoint, lease, golden_error=0.0, began=self._clock.monotonic())
        for spec in endpoint.draining if self._world.server_answers else ():
            await self._drain(spec, lease)

    async def _bring_up(self, endpoint: Endpoint, lease: Lease) -> None:
        began = self._clock.monotonic()
        try:
            error = await self._loaded(endpoint, lease)
        except (BadPackage, GoldenMismatch) as refusal:
            await self._fail(endpoint, lease, refusal.message)
        except (LoadFailed, DamagedPackage) as refusal:
            await self._retry_or_fail(endpoint, lease, refusal.message, MAX_REFUSALS)
        except ModelServerAway as lost:
            await self._retry_or_fail(endpoint, lease, lost.message, MAX_ATTEMPTS)
        else:
            await self._shift(endpoint, lease, golden_error=error, began=began)

    async def _loaded(self, endpoint: Endpoint, lease: Lease) -> float:
        spec = endpoint.desired
        for other in self._specs():
            if other.backend == spec.backend and other.digest != spec.digest:
                raise BadPackage(f"{spec.backend} is in use with other bytes (digest {other.digest[:12]}…)")
        try:
            installed = await self._loader.install(spec)
        except DamagedPackage:
            await self._record(outcomes.begins(endpoint, lease))
            raise
        await self._record(outcomes.begins(endpoint, lease))
        return await self._loader.bring_up(installed)

    async def _retry_or_fail(self, endpoint: Endpoint, lease: Lease, reason: str, most: int) -> None:
        attempts = endpoint.attempts + 1
        if attempts >= most:
            await self._fail(endpoint, lease, f"given up after {attempts} attempts: {reason}")
        else:
            await self._record(outcomes.waits(endpoint, lease, f"attempt {attempts} of {most} failed: {reason}"))

    async def _shift(self, endpoint: Endpoint, lease: Lease, *, golden_error: float, began: float) -> None:
        await fp("deploy.P6.before")
        seconds = self._clock.monotonic() - began
        shift = outcomes.Shift(endpoint, lease, golden_error, seconds, self._rules.sampling)
        await self._record(shift)
        await fp("deploy.P6.after")
        await self._world.read_documents(self._documents)
        spec = endpoint.desired
        log.info("traffic shifted", deployment=spec.deployment, revision=spec.revision, present=spec.present)

    async def _fail(self, endpoint: Endpoint, lease: Lease, reason: str) -> None:
        await fp("deploy.P9.before")
        await self._record(outcomes.fails(endpoint, lease, reason))
        await fp("deploy.P9.after")
        spec = endpoint.desired
        log.warning("deployment failed", deployment=spec.deployment, revision=spec.revision, reason=reason)

    async def _drain(self, spec: Spec, lease: Lease) -> None:
        """Unload a revision without traffic, once it has had none for a while."""
        key = (spec.project, spec.deployment, spec.revision)
        since = self._draining_since.setdefault(key, self._clock.monotonic())
        needed = sum(other.backend == spec.backend for other in self._specs()) > 1
        if not needed:
            if self._clock.monotonic() - since < self._rules.drain_seconds or self._traffic.in_flight(spec.backend):
                return
            await fp("deploy.P7.before")
            await self._check_lease(lease)
            await self._loader.take_down(spec.backend)
            await fp("deploy.P7.after")
        await self._record(outcomes.retires(lease, spec))
        self._draining_since.pop(key, None)

    async def _collect(self, lease: Lease) -> None:
        """Unload and delete what no endpoint names: leftovers of failed, superseded or interrupted deployments."""
        await self._world.read_documents(self._documents)
        needed = frozenset().union(*(endpoint.backends for endpoint in self._world.endpoints))
        for name in sorted(await self._repository.names() - needed - self._world.table.backend_models()):
            if not self._traffic.in_flight(name):
                await self._check_lease(lease)
                await self._loader.take_down(name)
                log.info("unused model removed", backend=name)

    def _specs(self) -> list[Spec]:
        """Return every revision that serves or drains."""
        return [spec for e in self._world.endpoints for spec in (e.serving, *e.draining) if spec is not None]

    async def _record(self, work: Callable[[Unit], Awaitable[None]]) -> None:
        await self._transact(work)
