"""Invariant I8: answers come from what the route names, and a rollout never has zero ready versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from serving.application.ports import Documents, ModelRepository, ModelServer, ModelState
from serving.domain.endpoint import Endpoint
from serving.domain.routes import Route


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant, where, and what is wrong."""

    invariant: str
    what: str
    where: str


async def check(documents: Documents, server: ModelServer, repository: ModelRepository) -> tuple[int, list[Violation]]:
    """Return how many things were checked, and what is broken.

    Raises:
        Unavailable: documents or model server cannot be asked.
    """
    endpoints = await documents.endpoints()
    routes = {(route.project, route.deployment): route for route in await documents.routes()}
    models = await server.index()
    violations: list[Violation] = []
    for endpoint in endpoints:
        key = (endpoint.desired.project, endpoint.desired.deployment)
        violations += _agreement(endpoint, routes.pop(key, None))
    violations += [Violation("I8", "a route without an endpoint", f"{project}/{name}") for project, name in routes]
    for endpoint in endpoints:
        violations += await _serving(endpoint, models, repository)
    return len(endpoints) + len(routes), violations


def _agreement(endpoint: Endpoint, route: Route | None) -> Iterator[Violation]:
    where = f"{endpoint.desired.project}/{endpoint.desired.deployment}"
    named = {(arm.revision, arm.backend_model, arm.digest) for arm in (route.arms if route else ())}
    serving = endpoint.serving
    expected = {(serving.revision, serving.backend, serving.digest)} if serving else set()
    if named != expected:
        yield Violation("I8", "the route does not name what the endpoint serves", where)
    if endpoint.state == "READY" and endpoint.serving != endpoint.desired:
        yield Violation("I8", "the endpoint says ready and serves another revision", where)


async def _serving(
    endpoint: Endpoint, models: Mapping[str, ModelState], repository: ModelRepository
) -> list[Violation]:
    spec = endpoint.serving
    if spec is None:
        return []
    where = f"{spec.project}/{spec.deployment}@{spec.revision}"
    found: list[Violation] = []
    state = models.get(spec.backend)
    if state is None or not state.ready:
        found.append(Violation("I8", f"{spec.backend} gets traffic and is not ready", where))
    installed = await repository.find(spec.backend)
    if installed is None or installed.digest != spec.digest:
        found.append(Violation("I8", f"the folder of {spec.backend} is not the registered package", where))
    return found
