"""How the console joins the gateway's app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from catalog.console.pages import routers
from catalog.console.render import PREFIX, show_error, static
from millrace.errors import Invalid, MillraceError, NotFound

ANONYMOUS_PATHS = frozenset({"/", f"{PREFIX}/", f"{PREFIX}/login", f"{PREFIX}/static"})
"""What the console answers without a session: the way to it, the sign-in form, style sheets and scripts."""

Handler = Callable[[Request, MillraceError], Awaitable[Response]]
PlainHandler = Callable[[Request, HTTPException], Awaitable[Response]]
FormHandler = Callable[[Request, RequestValidationError], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Add the console's pages to the gateway; errors below its prefix are shown as pages."""
    for router in routers:
        app.include_router(router)
    app.mount(f"{PREFIX}/static", static, name="console-static")
    as_problem = cast("Handler", app.exception_handlers[MillraceError])

    @app.exception_handler(MillraceError)
    async def for_people(request: Request, error: MillraceError) -> Response:
        if _for_people(request):
            return await show_error(request, error)
        return await as_problem(request, error)

    as_listed_problem = cast("FormHandler", app.exception_handlers[RequestValidationError])

    @app.exception_handler(RequestValidationError)
    async def wrong_input(request: Request, error: RequestValidationError) -> Response:
        if _for_people(request):
            return await show_error(request, Invalid(_in_words(error)))
        return await as_listed_problem(request, error)

    as_plain_problem = cast("PlainHandler", app.exception_handlers[HTTPException])

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith(f"{PREFIX}/") and error.status_code == NotFound.status:
            return await show_error(request, NotFound("there is no such page"))
        return await as_plain_problem(request, error)

    @app.get(f"{PREFIX}/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        """Send a browser to the console."""
        return RedirectResponse(PREFIX)


def _for_people(request: Request) -> bool:
    """Return whether a person reads the answer; what scripts send below `/data` is answered as the API does."""
    path, safe = request.url.path, request.method in {"GET", "HEAD"}
    return path.startswith(PREFIX) and (safe or not path.startswith(f"{PREFIX}/data/"))


def _in_words(error: RequestValidationError) -> str:
    first = error.errors()[0]
    field = str(first["loc"][-1])[:60].encode("utf-8", "replace").decode()
    return f"{field}: {str(first['msg'])[:200]}"
