"""The admin API: endpoints as they are, and the invariants. The data plane is `oip.py`, on the same port."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.types import ASGIApp, Receive, Scope, Send

from millrace.auth import Principal
from millrace.http import ProjectName, requires, requires_platform
from millrace.patterns import NAME_PATTERN
from serving.application import fsck
from serving.application.ports import Documents, ModelRepository, ModelServer, Traffic
from serving.application.world import World
from serving.domain.endpoint import Endpoint, Spec
from serving.domain.routes import Route
from serving.entrypoints.oip import PREFIX
from serving.errors import EndpointNotFound

Reader = Annotated[Principal, Depends(requires("endpoints:read"))]
Checker = Annotated[Principal, Depends(requires_platform("fsck:read"))]
Name = Annotated[str, Path(pattern=NAME_PATTERN)]


def endpoints_router(documents: Documents, world: World, traffic: Traffic) -> APIRouter:
    """Return `/v1/endpoints`."""
    router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])

    async def views(project: str) -> list[dict[str, Any]]:
        routes = {(route.project, route.deployment): route for route in await documents.routes()}
        return [
            _view(endpoint, routes.get((project, endpoint.desired.deployment)), world, traffic)
            for endpoint in await documents.endpoints()
            if endpoint.desired.project == project
        ]

    @router.get("")
    async def list_endpoints(_: Reader, project: ProjectName = "default") -> dict[str, Any]:
        """List the endpoints of a project."""
        return {"items": await views(project), "next": None}

    @router.get("/{name}")
    async def get_endpoint(name: Name, _: Reader, project: ProjectName = "default") -> dict[str, Any]:
        """Return one endpoint: what is desired, what serves, and what it waits for."""
        for view in await views(project):
            if view["name"] == name:
                return view
        raise EndpointNotFound(f"no endpoint {name!r}")

    return router


def fsck_router(documents: Documents, server: ModelServer, repository: ModelRepository) -> APIRouter:
    """Return `/v1/fsck`."""
    router = APIRouter(tags=["operations"])

    @router.get("/v1/fsck")
    async def check(_: Checker) -> dict[str, Any]:
        """Check this service's invariants."""
        checked, violations = await fsck.check(documents, server, repository)
        return {"service": "serving", "checked": checked, "violations": [asdict(item) for item in violations]}

    return router


def _view(endpoint: Endpoint, route: Route | None, world: World, traffic: Traffic) -> dict[str, Any]:
    desired, serving = endpoint.desired, endpoint.serving
    return {
        "name": desired.deployment,
        "project": desired.project,
        "state": endpoint.state,
        "reason": endpoint.reason,
        "revision": desired.revision,
        "desired": _spec(desired) if desired.present else None,
        "serving": _spec(serving) if serving else None,
        "draining": [_spec(spec) for spec in endpoint.draining],
        "ready": serving is not None and world.ready(serving.backend),
        "in_flight": traffic.in_flight(serving.backend) if serving else 0,
        "route": _route(route) if route else None,
        "url": f"{PREFIX}/models/{desired.deployment}",
    }


def _spec(spec: Spec) -> dict[str, Any]:
    return {
        "revision": spec.revision,
        "model": spec.model,
        "version": spec.version,
        "digest": spec.digest,
        "dataset": spec.dataset,
        "commit": spec.commit,
        "backend_model": spec.backend,
    }


def _route(route: Route) -> dict[str, Any]:
    arms = [{"revision": arm.revision, "backend_model": arm.backend_model, "weight": arm.weight} for arm in route.arms]
    return {"epoch": route.epoch, "sampling": route.sampling, "arms": arms}


class FrontDoor:
    """One port: the data plane's paths go straight to it, everything else to the admin app."""

    def __init__(self, *, data: ASGIApp, admin: ASGIApp) -> None:
        self._data = data
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        is_data = scope["type"] == "http" and (scope["path"] == PREFIX or scope["path"].startswith(f"{PREFIX}/"))
        await (self._data if is_data else self._admin)(scope, receive, send)
