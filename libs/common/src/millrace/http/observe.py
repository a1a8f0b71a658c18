"""Request ids, one log line per request, and rate, errors and duration per route."""

from __future__ import annotations

import re
import time

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millrace.clock import new_id

log = structlog.get_logger(__name__)

DURATION = Histogram(
    "millrace_http_request_seconds",
    "Time from the request's head to the response's end",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9._-]{1,64}$")
_QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ObserveRequests:
    """Binds a request id to the logs of a request, returns it, and measures the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, observed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or str(new_id())
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, noted)
            finally:
                self._measure(scope, status, time.perf_counter() - started)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        path: str = scope["path"]
        route = getattr(scope.get("route"), "path", None) or ("(none)" if path not in _QUIET else path)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        DURATION.labels(method, route, str(status)).observe(seconds)
        if path not in _QUIET:
            log.info("request", method=method, path=path, status=status, ms=round(seconds * 1_000, 1))


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            decoded: str = value.decode()
            return decoded
    return None
