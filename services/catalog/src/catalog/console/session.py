"""Signing in: an API token is exchanged for a session, which lives in a cookie that no script can read.

The session is itself a short-lived token of the same principal, minted by `POST /v1/tokens/session`; the token that was
typed in is not kept. The cookie is HttpOnly and SameSite=Strict, and every unsafe request must also come from the
console's own origin.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from catalog.console.api import ConsoleApi
from catalog.console.project import project_of
from millrace.errors import Forbidden, Unauthenticated

COOKIE = "millrace_session"
SESSION_SECONDS = 12 * 3600


def same_origin(request: Request) -> None:
    """Refuse an unsafe request that another site's page sent.

    Raises:
        Forbidden: the Origin (or, without one, the Referer) names another host.
    """
    source = request.headers.get("origin") or request.headers.get("referer") or ""
    if urlsplit(source).netloc != request.headers.get("host", ""):
        raise Forbidden("this request did not come from the console's own pages")


async def signed_in(request: Request) -> ConsoleApi:
    """Return the API as the person behind the session's cookie sees it.

    Raises:
        Unauthenticated: there is no session; the console's error handler shows the sign-in page.
    """
    token = request.cookies.get(COOKIE)
    if not token:
        raise Unauthenticated("sign in first")
    if request.method not in {"GET", "HEAD"}:
        same_origin(request)
    return ConsoleApi(request.app, token, project=project_of(request))


signed_in.action = "session"  # type: ignore[attr-defined]  # for the test that enumerates every route's guard

Api = Annotated[ConsoleApi, Depends(signed_in)]
