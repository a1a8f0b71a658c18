"""What every route depends on: the catalog, and a caller who may do what the route does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from fastapi.responses import JSONResponse

from catalog.application.caller import Caller, Reply
from catalog.application.catalog import Catalog
from millrace.auth import Principal
from millrace.http import ProjectName, requires
from millrace.patterns import NAME_PATTERN


def catalog_of(request: Request) -> Catalog:
    """Return the catalog of the app."""
    catalog: Catalog = request.app.state.catalog
    return catalog


Here = Annotated[Catalog, Depends(catalog_of)]
Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Limit = Annotated[int, Query(ge=1, le=1_000, description="at most this many items")]
After = Annotated[str | None, Query(max_length=300, description="the `next` of the page before")]

Story = Annotated[
    str | None,
    Header(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:-]{0,127}$", description="the events that this request goes on from"),
]


def may(action: str) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency: the caller, if it may do `action` in the request's project."""
    guard = requires(action)

    async def caller(
        principal: Principal = Depends(guard),  # noqa: B008 - evaluated once per route, as FastAPI wants
        project: ProjectName = "default",
        idempotency_key: Annotated[str | None, Header(description="makes repeats of this request harmless")] = None,
        x_correlation_id: Story = None,
        x_causation_id: Story = None,
    ) -> Caller:
        return Caller(
            principal=principal.id,
            project=project,
            idempotency_key=idempotency_key,
            correlation=x_correlation_id,
            causation=x_causation_id,
        )

    return caller


def also(status: int, description: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entry of a second way in which a route succeeds."""
    return {status: {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}}


MAY_CREATE = also(201, "It did not exist, and does now")
MAY_REPEAT = also(200, "A repeat: what the first request made")


def answer(reply: Reply) -> JSONResponse:
    """Return a reply as a response."""
    return JSONResponse(reply.body, status_code=reply.status)


def page(items: list[dict[str, Any]], limit: int, after: str | None) -> dict[str, Any]:
    """Return a list response; `after` is the cursor beyond its last item."""
    return {"items": items, "next": after if items and len(items) == limit else None}
