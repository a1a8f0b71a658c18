"""/v1/events: what outside systems send, and the log of everything that happened."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from catalog.application import views
from catalog.application.caller import Caller
from catalog.application.catalog import Catalog
from catalog.application.event_log import Filter, follow_events, read_events
from catalog.application.landing import accept_landings, find_operation
from catalog.domain.operations import OperationState
from catalog.domain.records import LogRow
from catalog.entrypoints.cloudevents_http import read_events as parse_events
from catalog.entrypoints.dependencies import After, Here, Limit, also, catalog_of, may, page
from millrace.errors import Forbidden, Invalid
from millrace.events import DataLanded
from millrace.failpoints import fp

router = APIRouter(tags=["events"])
Reader = Annotated[Caller, Depends(may("events:read"))]
Sender = Annotated[Caller, Depends(may("events:write"))]
Follower = Annotated[Caller, Depends(may("operations:read"))]

VALIDATED = also(200, "The answer to Event Grid's validation of a subscription")
CLOUD_EVENTS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": {"type": "object"}},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


@router.post("/v1/events", status_code=202, openapi_extra=CLOUD_EVENTS, responses=VALIDATED)
async def post_events(request: Request, caller: Sender, catalog: Here) -> JSONResponse:
    """Take CloudEvents `data.landed` (structured, binary or batched): 202, and `Location` says where to follow them.

    Events count once per (source, id). An Event Grid subscription is validated here, too.
    """
    body = await request.body()
    if request.headers.get("aeg-event-type", "").lower() == "subscriptionvalidation":
        return _validated(body)
    await fp("webhook.W1.before")
    landings = parse_events(request.headers, body)
    await fp("webhook.W1.after")
    operation = await catalog.in_unit(accept_landings, landings, caller, clock=catalog.clock)
    await fp("webhook.W3.after")
    _, children = await find_operation(caller.project, operation.id, documents=catalog.documents)
    location = operation_path(operation.id, caller.project)
    shown = {**views.operation(operation), "items": [views.operation(child) for child in children]}
    await fp("webhook.W4.before")
    return JSONResponse(shown, status_code=202, headers={"location": location, "retry-after": "1"})


def _validated(body: bytes) -> JSONResponse:
    try:
        events = json.loads(body)
        code = (events[0] if isinstance(events, list) else events)["data"]["validationCode"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise Invalid("a subscription validation carries data.validationCode") from None
    if not isinstance(code, str) or len(code) > 512:
        raise Invalid("data.validationCode is a text")
    return JSONResponse({"validationResponse": code})


@router.options("/v1/events", include_in_schema=False)
async def consent(request: Request, catalog: Annotated[Catalog, Depends(catalog_of)]) -> Response:
    """Say yes to the webhook handshake of CloudEvents for origins on the allow-list, and to no other."""
    origin = request.headers.get("webhook-request-origin", "")
    if origin not in catalog.webhook_origins:
        raise Forbidden("this origin may not subscribe")
    return Response(
        status_code=200,
        headers={"webhook-allowed-origin": origin, "webhook-allowed-rate": "120", "allow": "POST"},
    )


@router.get("/v1/events")
async def get_events(
    *,
    caller: Reader,
    catalog: Here,
    correlation: Annotated[str | None, Query(max_length=128)] = None,
    type: Annotated[str | None, Query(max_length=128)] = None,  # noqa: A002 - the parameter's public name
    subject: Annotated[str | None, Query(max_length=512)] = None,
    order: Annotated[Literal["oldest", "newest"], Query(description="which come first")] = "oldest",
    after: Annotated[int | None, Query(ge=0, le=2**53, description="go on from this position of the log")] = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Return the event log in order of position: `{position, event}`."""
    wanted = Filter(caller.project, correlation, type, subject)
    newest_first = order == "newest"
    rows = await read_events(wanted, after=after, limit=limit, documents=catalog.documents, newest_first=newest_first)
    return page([views.log_row(row) for row in rows], limit, str(rows[-1].position) if rows else None)


@router.get("/v1/events/stream")
async def stream_events(
    *,
    caller: Reader,
    catalog: Here,
    correlation: Annotated[str | None, Query(max_length=128)] = None,
    type: Annotated[str | None, Query(max_length=128)] = None,  # noqa: A002 - the parameter's public name
    subject: Annotated[str | None, Query(max_length=512)] = None,
    after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,15}$")] = None,
) -> StreamingResponse:
    """Stream events as they happen (SSE). It goes on after `Last-Event-ID`, which is a position in the log."""
    start = int(last_event_id) if last_event_id is not None else after
    wanted = Filter(caller.project, correlation, type, subject)
    rows = follow_events(wanted, after=start, documents=catalog.documents, bell=catalog.numbered)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_sse(rows), media_type="text/event-stream", headers=headers)


async def _sse(rows: AsyncIterator[LogRow | None]) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    async for row in rows:
        if row is None:
            yield b": still here\n\n"
        else:
            yield f"id: {row.position}\nevent: {row.type}\ndata: {row.raw}\n\n".encode()


@router.get("/v1/operations")
async def list_operations(
    *,
    caller: Follower,
    catalog: Here,
    state: Annotated[OperationState | None, Query()] = None,
    dataset: Annotated[str | None, Query(max_length=128)] = None,
    source: Annotated[str | None, Query(max_length=256, description="the outside system, as its events say")] = None,
    limit: Limit = 100,
    after: After = None,
) -> dict[str, Any]:
    """List what became of events from outside, newest first, whether they came over HTTP or straight over the bus."""
    filters = {"state": state, "dataset": dataset, "source": source}
    where = {"project": caller.project, "type": DataLanded.TYPE}
    where |= {name: value for name, value in filters.items() if value is not None}
    operations = catalog.documents.operations
    found = await operations.find(where, order="number", descending=True, after=after, limit=limit)
    return page([views.operation(item) for item in found], limit, found[-1].number if found else None)


@router.get("/v1/operations/{operation}", responses=also(202, "It is on its way; look again"))
async def get_operation(operation: str, caller: Follower, catalog: Here) -> JSONResponse:
    """Return what became of an event that was sent: 202 while it is on its way, 200 at its end, always an object."""
    found, children = await find_operation(caller.project, operation, documents=catalog.documents)
    shown = {**views.operation(found), "items": [views.operation(child) for child in children]}
    ended = found.state in ("completed", "failed")
    if ended:
        return JSONResponse(shown)
    location = operation_path(operation, caller.project)
    return JSONResponse(shown, status_code=202, headers={"location": location, "retry-after": "1"})


def operation_path(operation: str, project: str) -> str:
    """Return where an operation is followed."""
    path = f"/v1/operations/{operation}"
    return path if project == "default" else f"{path}?project={project}"
