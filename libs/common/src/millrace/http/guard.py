"""The one dependency that stands before every route: who is asking, and may they?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, Query, Request

from millrace.auth import ACTIONS, Authenticator, Principal, authorise
from millrace.errors import Forbidden, Unauthenticated
from millrace.patterns import NAME_PATTERN

MAX_HEADER = 512

ProjectName = Annotated[str, Query(alias="project", pattern=NAME_PATTERN, description="the project that is meant")]


async def authenticated(request: Request) -> Principal:
    """Return the principal of the request's bearer token.

    Raises:
        Unauthenticated: there is no token, or it is not valid.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MAX_HEADER:
        raise Unauthenticated("this needs a bearer token", hint="send `Authorization: Bearer mlr_…`")
    authenticator: Authenticator = request.app.state.authenticator
    principal = await authenticator.authenticate(token.strip())
    structlog.contextvars.bind_contextvars(principal=principal.id)
    return principal


def requires(action: str) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that lets a principal pass who may do `action` in the request's project.

    The project is the query parameter `project`, `default` if absent.
    """
    if action not in ACTIONS:
        raise ValueError(f"no role grants {action!r}")

    async def guard(
        principal: Annotated[Principal, Depends(authenticated)], project: ProjectName = "default"
    ) -> Principal:
        authorise(principal, action, project)
        structlog.contextvars.bind_contextvars(project=project)
        return principal

    guard.action = action  # type: ignore[attr-defined]
    return guard


def requires_platform(action: str) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency for what belongs to no project (token introspection, fsck over all)."""
    if action not in ACTIONS:
        raise ValueError(f"no role grants {action!r}")

    async def guard(principal: Annotated[Principal, Depends(authenticated)]) -> Principal:
        if action not in principal.actions or principal.project != "*":
            raise Forbidden(f"{principal.id} may not {action}")
        return principal

    guard.action = action  # type: ignore[attr-defined]
    return guard
