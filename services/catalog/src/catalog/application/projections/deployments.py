"""Deployments move on by what serving reports."""

from __future__ import annotations

from dataclasses import replace

import structlog

from catalog.application.ports import Unit
from catalog.application.projections.requests import settle
from catalog.domain.deployments import Deployment, Observed, deployment_id
from millrace.events import (
    AnyEvent,
    DeploymentFailed,
    DeploymentReady,
    DeploymentRetired,
    DeploymentRolledBack,
)

log = structlog.get_logger(__name__)


async def project_deployment(event: AnyEvent, *, uow: Unit) -> None:
    """Apply one report to its deployment; reports of older revisions change nothing."""
    deployment = await uow.deployments.get(deployment_id(event.project, event.data.deployment))
    if deployment is None:
        log.warning("report about an unknown deployment", deployment=event.data.deployment, type=event.type)
        return
    seen = deployment.observing(_observed(deployment, event))
    if seen is None:
        log.info("report dropped", deployment=deployment.name, type=event.type, revision=event.data.revision)
        return
    await uow.deployments.save(seen)
    await _follow(seen, event, uow)


def _observed(deployment: Deployment, event: AnyEvent) -> Observed:
    data = event.data
    known = replace(deployment.observed, revision=data.revision, sequence=event.sequence, at=event.time, reason="")
    if isinstance(data, DeploymentReady):
        return replace(
            known,
            state="ready",
            serving=data.revision,
            serving_model=data.model,
            serving_version=data.version,
            backend_model=data.backend_model,
            route_epoch=data.route_epoch,
            golden_error=data.golden_error,
            seconds=data.seconds,
        )
    if isinstance(data, DeploymentFailed):
        return replace(known, state="failed", reason=data.reason)
    if isinstance(data, DeploymentRolledBack):
        return _rolled_back(deployment, known, data)
    return replace(known, state="retired", serving=None, serving_model=None, serving_version=None)


def _rolled_back(deployment: Deployment, known: Observed, data: DeploymentRolledBack) -> Observed:
    earlier = next((it for it in deployment.history if it.revision == data.to_revision), None)
    return replace(
        known,
        state="rolled-back",
        reason=data.reason,
        serving=data.to_revision,
        serving_model=earlier.model if earlier else known.serving_model,
        serving_version=earlier.version if earlier else known.serving_version,
    )


async def _follow(deployment: Deployment, event: AnyEvent, uow: Unit) -> None:
    target = f"deployment:{deployment.name}@{event.data.revision}"
    seen = deployment.observed
    if isinstance(event.data, DeploymentReady | DeploymentRetired):
        await settle(deployment.project, target, "done", seen.state, uow=uow)
    else:
        await settle(deployment.project, target, "failed", seen.reason or seen.state, uow=uow)
