"""Signing in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from catalog.console.api import ConsoleApi
from catalog.console.render import PREFIX, new_router, page
from catalog.console.session import COOKIE, SESSION_SECONDS, Api, same_origin
from millrace.errors import MillraceError

router = new_router()


@router.get("/login", response_class=HTMLResponse)
async def login_page(request: Request) -> HTMLResponse:
    """Show the sign-in form."""
    return page(request, "login.html", error=None)


@router.post("/login")
async def login(request: Request, token: Annotated[str, Form(max_length=256)]) -> Response:
    """Exchange an API token for a session cookie."""
    same_origin(request)
    try:
        session = await ConsoleApi(request.app, token.strip(), project="default").post("/v1/tokens/session", {})
    except MillraceError as error:
        return page(request, "login.html", status=error.status, error=error.message)
    response = RedirectResponse(PREFIX, status_code=303)
    response.set_cookie(
        COOKIE,
        session["token"],
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path=PREFIX,
    )
    return response


@router.post("/logout")
async def logout(api: Api) -> Response:
    """End the session, here and on the server."""
    await api.delete("/v1/tokens/session")
    response = RedirectResponse(f"{PREFIX}/login", status_code=303)
    response.delete_cookie(COOKIE, path=PREFIX)
    return response
