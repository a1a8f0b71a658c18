"""What a policy can ask for. Each request keeps the correlation of the event that caused it."""

from __future__ import annotations

from catalog.application.deployments import want_model
from catalog.application.policies.documents import CacheAction, DeployAction, TrainAction
from catalog.application.ports import Unit
from catalog.application.runs import RunWish, request_cache, request_run
from catalog.domain.datasets import Version, version_id
from catalog.domain.deployments import deployment_id
from catalog.domain.models import model_version_id
from catalog.domain.policies import Request
from millrace.clock import Clock
from millrace.events import AnyEvent


def cache_target(site: str, dataset: str, version: int) -> str:
    """Return the name under which the answers to a cache request are matched."""
    return f"cache:{site}/{dataset}@{version}"


async def ask_cache(action: CacheAction, event: AnyEvent, by: str, *, uow: Unit) -> Request:
    """Ask for the committed version to be present at the site."""
    version = await _version(event, uow)
    spec = action.model_dump(mode="json")
    if version is None:
        return Request(kind="cache", target="cache", state="refused", reason="the version is not known", spec=spec)
    request_cache(version, action.site, by, cause=event, uow=uow)
    target = cache_target(action.site, version.dataset, version.version)
    reason = f"waiting for site {action.site} to hold {version.dataset}@{version.version}"
    return Request(kind="cache", target=target, state="requested", reason=reason, spec=spec)


async def ask_training(
    action: TrainAction, event: AnyEvent, by: str, *, also_cache: bool, uow: Unit, clock: Clock
) -> Request:
    """Ask for a run on the committed version."""
    version = await _version(event, uow)
    spec = action.model_dump(mode="json", exclude_none=True)
    if version is None:
        return Request(kind="train", target="train", state="refused", reason="the version is not known", spec=spec)
    wish = RunWish(
        site=action.site,
        component=action.component,
        model=action.model,
        params=action.params,
        gpus=action.gpus,
        priority=action.priority,
        experiment=action.experiment,
    )
    if also_cache:
        request_cache(version, action.site, by, cause=event, uow=uow)
    run = await request_run(version, wish, by, cause=event, correlation=None, uow=uow, clock=clock)
    return Request(kind="train", target=f"run:{run.id}", state="requested", reason="waiting for the run", spec=spec)


async def ask_deployment(
    action: DeployAction, event: AnyEvent, by: str, why: str, *, uow: Unit, clock: Clock
) -> Request:
    """Ask for the model version to serve, unless a newer version of the same model is wanted already."""
    spec = action.model_dump(mode="json")
    model, number = event.data.model, event.data.version
    version = await uow.model_versions.get(model_version_id(event.project, model, number))
    if version is None:
        return Request(kind="deploy", target="deploy", state="refused", reason="the model is not known", spec=spec)
    current = await uow.deployments.get(deployment_id(event.project, action.deployment))
    if current is not None and current.desired.presence == "present":
        wish = current.desired
        if wish.model == model and wish.version > number:
            reason = f"{model}@{wish.version} is wanted already, and newer"
            return Request(kind="deploy", target="deploy", state="skipped", reason=reason, spec=spec)
    deployment = await want_model(action.deployment, version, by, why, cause=event, uow=uow, clock=clock)
    target = f"deployment:{action.deployment}@{deployment.desired.revision}"
    if deployment.settled:
        return Request(
            kind="deploy", target=target, state="done", reason="it is wanted and answered already", spec=spec
        )
    return Request(kind="deploy", target=target, state="requested", reason=why or "waiting for serving", spec=spec)


async def _version(event: AnyEvent, uow: Unit) -> Version | None:
    return await uow.versions.get(version_id(event.project, event.data.dataset, event.data.version))
