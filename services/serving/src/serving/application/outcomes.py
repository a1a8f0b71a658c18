"""What the leader writes: each outcome is one transaction of state, route, event and audit row.

Each one reads the endpoint again and acts only if it is still about the revision that the leader worked on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from millrace.errors import Conflict
from millrace.events import DeploymentFailed, DeploymentReady, DeploymentRetired, EventData, decode
from millrace.leases.ports import Lease
from serving.application.ports import ServingUnitOfWork
from serving.domain.endpoint import Endpoint, Spec, shifted_route

Unit = ServingUnitOfWork
Outcome = Callable[[Unit], Awaitable[None]]

PRINCIPAL = "service:serving"


async def _current(uow: Unit, endpoint: Endpoint, lease: Lease) -> Endpoint:
    await uow.guard(lease)
    desired = endpoint.desired
    current = await uow.endpoints.get(desired.project, desired.deployment)
    if current is None or current.desired.revision != desired.revision:
        raise Conflict(f"revision {desired.revision} of {desired.deployment} is no longer desired")
    return current


def _tell(uow: Unit, saved: Endpoint, data: EventData, action: str) -> None:
    desired = saved.desired
    cause = decode(saved.cause.encode())
    uow.emit(
        data,
        project=desired.project,
        subject=desired.deployment,
        sequence=saved.revision,
        cause=cause,
        principal=PRINCIPAL,
    )
    facts = data.model_dump(mode="json", exclude_none=True)
    uow.audit(PRINCIPAL, action, f"endpoint/{desired.deployment}", desired.project, facts)


def begins(endpoint: Endpoint, lease: Lease) -> Outcome:
    """Count a load before it begins, so that a model that kills the server is not loaded for ever."""

    async def work(uow: Unit) -> None:
        current = await _current(uow, endpoint, lease)
        if current.pending:
            await uow.endpoints.save(current.loading())

    return work


def waits(endpoint: Endpoint, lease: Lease, reason: str) -> Outcome:
    """Say why an endpoint does not advance."""

    async def work(uow: Unit) -> None:
        current = await _current(uow, endpoint, lease)
        if current.waiting(reason) is not current:
            await uow.endpoints.save(current.waiting(reason))

    return work


def fails(endpoint: Endpoint, lease: Lease, reason: str) -> Outcome:
    """Give the desired revision up; the one that serves goes on."""

    async def work(uow: Unit) -> None:
        current = await _current(uow, endpoint, lease)
        if not current.pending:
            return
        saved = await uow.endpoints.save(current.failed(reason))
        spec = saved.desired
        fact = DeploymentFailed(
            deployment=spec.deployment,
            revision=spec.revision,
            model=spec.model,
            version=spec.version,
            reason=saved.reason,
        )
        _tell(uow, saved, fact, "deployment.fail")

    return work


def retires(lease: Lease, spec: Spec) -> Outcome:
    """Record that a drained revision is unloaded."""

    async def work(uow: Unit) -> None:
        await uow.guard(lease)
        current = await uow.endpoints.get(spec.project, spec.deployment)
        if current is None or spec not in current.draining:
            return
        saved = await uow.endpoints.save(current.drained(spec))
        fact = DeploymentRetired(
            deployment=spec.deployment, revision=spec.revision, model=spec.model, version=spec.version
        )
        _tell(uow, saved, fact, "deployment.retire")

    return work


@dataclass(frozen=True)
class Shift:
    """Give the desired revision all traffic: route by compare-and-set on its epoch, state, and `deployment.ready`."""

    endpoint: Endpoint
    lease: Lease
    golden_error: float
    seconds: float
    sampling: float

    async def __call__(self, uow: Unit) -> None:
        """Write the shift."""
        current = await _current(uow, self.endpoint, self.lease)
        if not current.pending:
            return
        spec = current.desired
        route = shifted_route(current, await uow.routes.get(spec.project, spec.deployment), self.sampling)
        saved = await uow.endpoints.save(current.shifted())
        await uow.routes.save(route)
        if spec.present:
            _tell(uow, saved, self._fact(spec, route.epoch), "deployment.shift")
        elif saved.state == "RETIRED":
            fact = DeploymentRetired(
                deployment=spec.deployment, revision=spec.revision, model=spec.model, version=spec.version
            )
            _tell(uow, saved, fact, "deployment.retire")

    def _fact(self, spec: Spec, epoch: int) -> DeploymentReady:
        return DeploymentReady(
            deployment=spec.deployment,
            revision=spec.revision,
            model=spec.model,
            version=spec.version,
            digest=spec.digest,
            dataset=spec.dataset,
            commit=spec.commit,
            reference=spec.reference,
            backend_model=spec.backend,
            route_epoch=epoch,
            golden_error=self.golden_error,
            seconds=self.seconds,
        )
