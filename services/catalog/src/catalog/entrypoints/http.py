"""The gateway's HTTP app: every resource's routes, what is forwarded, the documentation, the console."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from catalog import console
from catalog.application.catalog import Catalog
from catalog.application.landings import MAX_PART_BYTES
from catalog.entrypoints import docs
from catalog.entrypoints.docs.whole import whole
from catalog.entrypoints.forward import Forwarder
from catalog.entrypoints.routes import (
    checks,
    datasets,
    deployments,
    encryption,
    events,
    files,
    forwarded,
    garbage,
    landings,
    models,
    operations,
    pictures,
    policies,
    runs,
    tokens,
)
from millrace.auth import Authenticator
from millrace.http import create_app
from millrace.runtime import Runtime

MIB = 1024 * 1024
BODY_LIMITS = {
    "/v1/datasets/": 16 * MIB,
    "/v1/runs/": 8 * MIB,
    "/v1/policies/": 64 * 1024,
    "/v1/tokens": 16 * 1024,
    "/v1/landings/": MAX_PART_BYTES,
    "/console/data/landings/": MAX_PART_BYTES,
}
"""Path prefix → largest body in bytes, where it is not the usual 1 MiB."""

ROUTERS: tuple[APIRouter, ...] = (
    datasets.router,
    checks.router,
    encryption.router,
    files.router,
    garbage.router,
    pictures.router,
    landings.router,
    policies.router,
    runs.router,
    models.router,
    deployments.router,
    events.router,
    tokens.router,
    operations.router,
)


def make_app(
    catalog: Catalog,
    *,
    runtime: Runtime,
    authenticator: Authenticator,
    forwarder: Forwarder,
) -> FastAPI:
    """Return the app: the API, and the console over it."""
    app = create_app(
        "Millrace",
        runtime=runtime,
        authenticator=authenticator,
        routers=[*ROUTERS, forwarded.forwarded_routes(forwarder), docs.router],
        body_limits=BODY_LIMITS,
    )
    app.state.catalog = catalog

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        """Describe everything that the gateway answers, as far as the services it passes requests on to are up."""
        return JSONResponse(whole(app.openapi(), await forwarder.descriptions()))

    console.install(app)
    return app
