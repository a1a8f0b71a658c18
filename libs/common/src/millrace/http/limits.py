"""A limit on request bodies that holds for declared and for streamed lengths."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millrace.errors import TooLarge


class BodyLimit:
    """Answers 413 to a body over the limit of its path: at once if declared, else as soon as too much has come."""

    def __init__(self, app: ASGIApp, *, default: int, prefixes: dict[str, int]) -> None:
        self._app = app
        self._default = default
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((size for prefix, size in self._prefixes if scope["path"].startswith(prefix)), self._default)
        if _declared(scope) > limit:
            await self._refuse(limit, scope, receive, send)
            return
        seen, started = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise TooLarge(f"the body exceeds {limit} bytes")
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except TooLarge:
            if started:
                raise
            await self._refuse(limit, scope, receive, send)

    async def _refuse(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        body = TooLarge(f"the body exceeds {limit} bytes").to_problem(instance=scope["path"])
        headers = {"connection": "close"}
        response = JSONResponse(body, status_code=413, media_type="application/problem+json", headers=headers)
        await response(scope, receive, send)


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
