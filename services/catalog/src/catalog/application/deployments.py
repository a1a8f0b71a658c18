"""Deployments: what should serve. Each change of the wish is a revision, announced with everything serving needs."""

from __future__ import annotations

from dataclasses import replace

from catalog.application import views
from catalog.application.caller import Caller, Reply
from catalog.application.ports import Documents, Unit
from catalog.domain.deployments import Deployment, Desired, deployment_id
from catalog.domain.models import ModelVersion
from catalog.domain.records import edge
from catalog.errors import DeploymentNotFound
from millrace.clock import Clock
from millrace.events import AnyEvent, DeploymentRequested


async def want_model(
    name: str,
    version: ModelVersion,
    by: str,
    reason: str,
    *,
    cause: AnyEvent | None,
    uow: Unit,
    clock: Clock,
    correlation: str | None = None,
) -> Deployment:
    """Let a deployment want this model version; what it wants already is no new revision."""
    current = await uow.deployments.get(deployment_id(version.project, name))
    if current is not None and current.wants(version.model, version.version):
        return current
    wish = Desired(
        revision=current.desired.revision + 1 if current else 1,
        presence="present",
        model=version.model,
        version=version.version,
        digest=version.digest,
        prefix=version.prefix,
        dataset=version.dataset,
        commit=version.commit,
        reference=version.reference,
        reason=reason,
        by=by,
        at=clock.now(),
        cause=cause.id if cause else None,
    )
    if current is None:
        deployment = Deployment(
            id=deployment_id(version.project, name),
            project=version.project,
            name=name,
            desired=wish,
            created_at=clock.now(),
        )
        await uow.deployments.add(deployment)
    else:
        deployment = await uow.deployments.save(current.wanting(wish))
    node = f"deployment:{name}@{wish.revision}"
    await uow.edges.add(edge(version.project, f"model:{version.model}@{version.version}", "deployed", node))
    _announce(deployment, by, cause=cause, correlation=correlation, uow=uow)
    return deployment


def _announce(deployment: Deployment, by: str, *, cause: AnyEvent | None, correlation: str | None, uow: Unit) -> None:
    wish = deployment.desired
    uow.emit(
        DeploymentRequested(
            deployment=deployment.name,
            revision=wish.revision,
            model=wish.model,
            version=wish.version,
            desired=wish.presence,
            digest=wish.digest,
            prefix=wish.prefix,
            dataset=wish.dataset,
            commit=wish.commit,
            reference=wish.reference,
            reason=wish.reason,
        ),
        project=deployment.project,
        subject=deployment.name,
        sequence=wish.revision,
        cause=cause,
        principal=by,
        correlation=correlation,
    )
    what = f"{wish.model}@{wish.version}" if wish.presence == "present" else "nothing"
    detail = {"revision": wish.revision, "wants": what, "reason": wish.reason}
    uow.audit(by, "deployment.request", f"deployment:{deployment.name}@{wish.revision}", deployment.project, detail)


async def put_deployment(name: str, version: ModelVersion, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    """Let a deployment want a model version, by hand."""
    known = await uow.deployments.get(deployment_id(caller.project, name))
    deployment = await want_model(
        name, version, caller.principal, "", cause=None, correlation=caller.correlation, uow=uow, clock=clock
    )
    return Reply(200 if known else 201, views.deployment(deployment))


async def retire_deployment(name: str, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    """Let a deployment want nothing; serving drains and unloads it."""
    current = await find_deployment(caller.project, name, documents=uow)
    if current.desired.presence == "absent":
        return Reply(202, views.deployment(current))
    wish = replace(
        current.desired,
        revision=current.desired.revision + 1,
        presence="absent",
        reason="retired",
        by=caller.principal,
        at=clock.now(),
        cause=None,
    )
    deployment = await uow.deployments.save(current.wanting(wish))
    _announce(deployment, caller.principal, cause=None, correlation=caller.correlation, uow=uow)
    return Reply(202, views.deployment(deployment))


async def find_deployment(project: str, name: str, *, documents: Documents) -> Deployment:
    """Return a deployment.

    Raises:
        DeploymentNotFound: there is none of that name in the project.
    """
    deployment = await documents.deployments.get(deployment_id(project, name))
    if deployment is None:
        raise DeploymentNotFound(f"no deployment {name}")
    return deployment
