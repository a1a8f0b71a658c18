"""The Open Inference Protocol v2 over HTTP, as bare ASGI: this is the hot path.

    GET  /v2  /v2/health/live  /v2/health/ready               health is anonymous
    GET  /v2/models/{deployment}[/versions/{v}][/ready|config|stats]
    POST /v2/models/{deployment}[/versions/{v}]/infer          JSON, or a JSON head and binary tensors

Errors are `{"error": …}`, as clients of the protocol expect. The project is the query parameter `project`, else the
token's own, else `default`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

import orjson
import structlog
from prometheus_client import Histogram
from starlette.types import Receive, Scope, Send

from millrace.auth import Authenticator, Principal, authorise
from millrace.clock import Clock
from millrace.errors import Forbidden, Invalid, MillraceError, NotFound, TooLarge, Unauthenticated
from serving.application.gateway import Answer, Gateway, Question
from serving.application.world import World
from serving.domain.names import DEFAULT_PROJECT
from serving.domain.oip import BadHead, Target, head_length, parse_path
from serving.domain.routes import Route

log = structlog.get_logger(__name__)

LATENCY = Histogram(
    "millrace_serving_infer_seconds",
    "Time of inference requests from the whole body to the answer",
    ["project", "deployment", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)

PREFIX = "/v2"
EXTENSIONS = [
    "classification",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
]
INFER, READ, PROBE = "endpoints:infer", "endpoints:read", "endpoints:probe"
Headers = dict[bytes, bytes]
_JSON = b"application/json"


class MethodNotAllowed(Invalid):
    """The path exists and takes another method."""

    code = "method-not-allowed"
    status = 405


class OipApp:
    """The protocol's ASGI app."""

    def __init__(
        self, *, gateway: Gateway, world: World, authenticator: Authenticator, clock: Clock, max_body_bytes: int
    ) -> None:
        self._gateway = gateway
        self._world = world
        self._authenticator = authenticator
        self._clock = clock
        self._max_body = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, the answer is one of the protocol."""
        try:
            await self._answer(scope, receive, send)
        except MillraceError as error:
            await _send_error(send, error)
        except Exception:
            log.exception("inference request broke", path=scope["path"])
            await _send_error(send, MillraceError("an unexpected error"))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        target = parse_path(path)
        if target is not None:
            _only(scope, target.method)
            if target.verb == "infer":
                await self._infer(target, scope, receive, send)
            else:
                await self._read(target, scope, send)
        elif path in {"/v2/health/live", "/v2/health/ready"}:
            _only(scope, "GET")
            await self._health(path.rpartition("/")[2], send)
        elif path in {"/v2", "/v2/"}:
            _only(scope, "GET")
            await self._principal(_headers(scope))
            await _send_json(send, {"name": "millrace", "version": "0.1.0", "extensions": EXTENSIONS})
        else:
            await self._principal(_headers(scope))
            raise NotFound("no such path")

    async def _infer(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        principal = await self._principal(headers)
        project = _project(scope, principal)
        authorise(principal, INFER, project)
        capture = headers.get(b"x-millrace-capture", b"").lower() != b"off"
        if not capture:
            authorise(principal, PROBE, project)
        body = await _body(headers, receive, self._max_body)
        began = self._clock.monotonic()
        try:
            head = head_length(headers.get(b"inference-header-content-length"), len(body))
        except BadHead as error:
            raise Invalid(str(error)) from None
        content_type = _JSON if head is None else b"application/octet-stream"
        status = 503
        try:
            answer = await self._gateway.infer(Question(project, target, body, head, content_type, capture))
            status = answer.status
        except MillraceError as error:
            status = _status(error)
            raise
        finally:
            seconds = self._clock.monotonic() - began
            if self._world.table.find(project, target.name) is not None:  # no other name may become a label
                LATENCY.labels(project, target.name, str(status)).observe(seconds)
        await _send(send, answer.status, answer.body, _infer_headers(answer, seconds))

    async def _read(self, target: Target, scope: Scope, send: Send) -> None:
        principal = await self._principal(_headers(scope))
        project = _project(scope, principal)
        authorise(principal, INFER if INFER in principal.actions else READ, project)
        try:
            answer, route = await self._gateway.read(project, target)
        except NotFound as error:
            if target.verb == "ready":
                raise Invalid(error.message) from None
            raise
        body = answer.body
        if answer.status == 200:
            body = b'{"ready":true}' if target.verb == "ready" else _renamed(answer, route)
        await _send(send, answer.status, body, [(b"content-type", _JSON), *_retry(answer.status)])

    async def _health(self, what: str, send: Send) -> None:
        if what == "live":
            await _send_json(send, {"live": True})
            return
        ready = self._world.table_read and self._world.server_answers
        await _send_json(send, {"ready": ready}, status=200 if ready else 503)

    async def _principal(self, headers: Headers) -> Principal:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > 512:
            raise Unauthenticated("this needs a bearer token")
        return await self._authenticator.authenticate(token.strip().decode("latin-1"))


def _only(scope: Scope, method: str) -> None:
    if scope["method"] != method:
        raise MethodNotAllowed("Method Not Allowed")


def _headers(scope: Scope) -> Headers:
    return dict(scope["headers"])


def _project(scope: Scope, principal: Principal) -> str:
    query: bytes = scope["query_string"]
    if query:
        try:
            named = parse_qs(query.decode("latin-1"), max_num_fields=32).get("project")
        except ValueError:
            raise Invalid("too many query parameters") from None
        if named:
            return named[0]
    return DEFAULT_PROJECT if principal.project == "*" else principal.project


async def _body(headers: Headers, receive: Receive, limit: int) -> bytes:
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body exceeds {limit} bytes")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body exceeds {limit} bytes")
        parts.append(part)
        if not message.get("more_body"):
            break
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    encoding = headers.get(b"content-encoding", b"identity").lower()
    return body if encoding == b"identity" else _inflated(body, encoding, limit)


def _inflated(body: bytes, encoding: bytes, limit: int) -> bytes:
    if encoding not in {b"gzip", b"deflate"}:
        raise Invalid("Content-Encoding must be gzip or deflate")
    inflater = zlib.decompressobj(wbits=47)  # either header
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise Invalid("the compressed body is damaged") from None
    if len(plain) > limit or inflater.unconsumed_tail:
        raise TooLarge(f"the body exceeds {limit} bytes")
    if not inflater.eof:
        raise Invalid("the compressed body is cut short")
    return plain


def _infer_headers(answer: Answer, seconds: float) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", answer.content_type),
        (b"x-route-epoch", str(answer.epoch).encode()),
        (b"server-timing", b"model;dur=%.3f, gateway;dur=%.3f" % (answer.upstream * 1e3, seconds * 1e3)),
    ]
    if answer.arm is not None:
        headers.append((b"x-model-version", f"{answer.arm.model}@{answer.arm.version}".encode()))
    if answer.prediction:
        headers.append((b"x-prediction-id", answer.prediction.encode()))
    if answer.head is not None:
        headers.append((b"inference-header-content-length", str(answer.head).encode()))
    return headers + _retry(answer.status)


def _retry(status: int) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", b"1")] if status == 503 else []


def _renamed(answer: Answer, route: Route) -> bytes:
    """Return metadata, configuration or statistics with the client's names."""
    document: dict[str, Any] = orjson.loads(answer.body)
    arm = answer.arm
    for entry in (document, *document.get("model_stats", ())):
        if arm is not None and entry.get("name") == arm.backend_model:
            entry["name"] = route.deployment
            if "versions" in entry:
                entry["versions"] = [str(arm.version)]
            if "version" in entry:
                entry["version"] = str(arm.version)
    return orjson.dumps(document)


def _status(error: MillraceError) -> int:
    """Return the protocol's status: whatever can be tried again is 503."""
    return 503 if error.transient else error.status


async def _send_error(send: Send, error: MillraceError) -> None:
    status = _status(error)
    headers = _retry(status)
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="millrace"'))
    if isinstance(error, TooLarge):
        headers.append((b"connection", b"close"))
    hint = error.hint if isinstance(error, Forbidden) and error.hint else ""
    await _send_json(
        send, {"error": f"{error.message}; {hint}" if hint else error.message}, status=status, extra=headers
    )


async def _send_json(
    send: Send, document: dict[str, Any], *, status: int = 200, extra: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    await _send(send, status, orjson.dumps(document), [(b"content-type", _JSON), *extra])


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
