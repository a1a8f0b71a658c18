"""How the console joins the gateway's app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from catalog.console.pages import PREFIX, router, show_error, static
from millrace.errors import MillraceError, NotFound

ANONYMOUS_PATHS = frozenset({"/", f"{PREFIX}/", f"{PREFIX}/login", f"{PREFIX}/static"})
"""What the console answers without a session: the way to it, the sign-in form, style sheets and scripts."""

Handler = Callable[[Request, MillraceError], Awaitable[Response]]
PlainHandler = Callable[[Request, HTTPException], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Add the console's pages to the gateway; errors below its prefix are shown as pages."""
    app.include_router(router)
    app.mount(f"{PREFIX}/static", static, name="console-static")
    as_problem = cast("Handler", app.exception_handlers[MillraceError])

    @app.exception_handler(MillraceError)
    async def for_people(request: Request, error: MillraceError) -> Response:
        if request.url.path.startswith(PREFIX):
            return await show_error(request, error)
        return await as_problem(request, error)

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
