"""How the console joins the gateway's app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from catalog.console.pages import PREFIX, router, show_error, static
from millrace.errors import MillraceError

ANONYMOUS_PATHS = frozenset({"/", f"{PREFIX}/login", f"{PREFIX}/static"})
"""What the console answers without a session: the way to it, the sign-in form, style sheets and scripts."""

Handler = Callable[[Request, MillraceError], Awaitable[Response]]


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

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        """Send a browser to the console."""
        return RedirectResponse(PREFIX)
