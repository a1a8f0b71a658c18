"""Bytes that the API answers, handed on as they come: files, zips and previews to the browser, uploads from it.

The session's cookie is for the console's paths only, and a page's content comes from its own origin only; so these
paths stand before the API's. The API decides what the session may do, as for everybody.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catalog.console.render import PREFIX, new_router
from catalog.console.session import Api

router = new_router()

HERE = f"{PREFIX}/data".encode()
_PASSED_ON = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "root_path",
    "client",
    "server",
    "extensions",
    "state",
)
_NOT_SENT = frozenset({b"authorization", b"cookie", b"origin", b"referer"})
_SAID_TWICE = frozenset({b"x-request-id", b"x-content-type-options"})


class Passed(Response):
    """What the API answers to the same request at another path, streamed both ways."""

    def __init__(self, app: ASGIApp, path: bytes, authorization: str) -> None:
        self._app, self._path, self._authorization = app, path, authorization
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the API answer."""
        kept = [header for header in scope["headers"] if header[0] not in _NOT_SENT]
        inner = {name: scope[name] for name in _PASSED_ON if name in scope} | {
            "path": _decoded(self._path),
            "raw_path": self._path,
            "query_string": scope["query_string"],
            "headers": [*kept, (b"authorization", self._authorization.encode())],
        }

        async def once(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [it for it in message["headers"] if it[0] not in _SAID_TWICE]}
            await send(message)

        await self._app(inner, receive, once)


def _decoded(path: bytes) -> str:
    return unquote_to_bytes(path).decode("utf-8", "replace")


@router.get("/data/datasets/{rest:path}")
@router.head("/data/datasets/{rest:path}")
async def read(request: Request, api: Api) -> Response:
    """Hand on what a version holds."""
    return _passed(request, api)


@router.api_route("/data/landings", methods=["POST"])
@router.api_route("/data/landings/{rest:path}", methods=["POST", "PUT", "DELETE"])
async def write(request: Request, api: Api) -> Response:
    """Hand on what a browser uploads."""
    return _passed(request, api)


def _passed(request: Request, api: Api) -> Response:
    return Passed(request.app, b"/v1" + _rest(request), api.authorization)


def _rest(request: Request) -> bytes:
    raw: bytes = request.scope["raw_path"].partition(b"?")[0]
    return raw.removeprefix(HERE)
