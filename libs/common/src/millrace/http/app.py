"""The one way to make an HTTP app: problem documents, limits, health, metrics, traces, and no route without a guard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from millrace.auth import Authenticator
from millrace.errors import Invalid, MillraceError
from millrace.http.limits import BodyLimit
from millrace.http.observe import ObserveRequests
from millrace.http.openapi import PROBLEM, describe, operation_id
from millrace.runtime import Runtime

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1024 * 1024

ANONYMOUS_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""What every service answers without a token."""


def problem(error: MillraceError, request: Request | None = None) -> JSONResponse:
    """Return the problem+json response of an error."""
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="millrace"'
    if error.transient:
        headers["retry-after"] = "1"
    body = error.to_problem(instance=request.url.path if request else None)
    return JSONResponse(body, status_code=error.status, media_type=PROBLEM, headers=headers)


def create_app(
    title: str,
    *,
    runtime: Runtime,
    authenticator: Authenticator,
    routers: Iterable[APIRouter],
    max_body_bytes: int = MAX_BODY_BYTES,
    body_limits: dict[str, int] | None = None,
    docs: bool = False,
    lifespans: Sequence[Callable[[], contextlib.AbstractAsyncContextManager[None]]] = (),
) -> FastAPI:
    """Return an app whose lifespan runs `runtime`.

    `body_limits` maps path prefixes to larger or smaller limits in bytes. Every route of `routers` must depend on
    `requires(...)` (or be listed as anonymous by the service's route test).
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for enter in lifespans:
                await stack.enter_async_context(enter())
            await stack.enter_async_context(runtime.running())
            yield

    app = FastAPI(
        title=title,
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    describe(app)
    app.state.runtime = runtime
    app.state.authenticator = authenticator
    app.include_router(_health(runtime))
    for router in routers:
        app.include_router(router)
    _handle_errors(app)
    app.add_middleware(BodyLimit, default=max_body_bytes, prefixes=body_limits or {})
    app.add_middleware(ObserveRequests)
    FastAPIInstrumentor.instrument_app(app, excluded_urls="/livez,/readyz,/startupz,/metrics")
    return app


def _health(runtime: Runtime) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    @router.get("/startupz")
    async def livez() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok", "service": runtime.service}

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """Say whether the service can do its work, and if not, why."""
        reasons = await runtime.reasons()
        body = {"status": "waiting" if reasons else "ready", "service": runtime.service, "reasons": reasons}
        return JSONResponse(body, status_code=503 if reasons else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Return Prometheus metrics."""
        return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(MillraceError)
    async def ours(request: Request, error: MillraceError) -> JSONResponse:
        if error.status >= 500:
            log.warning("request failed", path=request.url.path, code=error.code, reason=error.message)
        return problem(error, request)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(Invalid(_first(error.errors()), errors=_located(error.errors())), request)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        body["instance"] = request.url.path
        return JSONResponse(body, status_code=error.status_code, media_type=PROBLEM, headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected error", path=request.url.path, exc_info=error)
        return problem(MillraceError("an unexpected error; the log has it under the request id"), request)


def _first(errors: Sequence[Any]) -> str:
    first = _located(errors)[0]
    return f"{first['where']}: {first['what']}"


def _located(errors: Sequence[Any]) -> list[dict[str, str]]:
    return [{"where": _shown(".".join(map(str, item["loc"]))), "what": _shown(item["msg"])} for item in errors[:20]]


def _shown(text: str) -> str:
    """Return text that came from outside, cut and without lone surrogates, which no JSON encoder takes."""
    return text[:200].encode("utf-8", "replace").decode()
