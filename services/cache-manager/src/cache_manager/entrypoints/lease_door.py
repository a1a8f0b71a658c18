"""The short way to a lease. Many runs start at once, and each waits for this one answer.

`POST /v1/cache/leases` is a route of the app like any other, and its guard, body and answers are what this door serves
with fewer layers: no routing, no dependency graph, one log line for many grants. What is not plainly a good request
(no token, a token that may not, a body that does not fit) is handed to the app, which refuses it in its own words.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from starlette.types import Message, Receive, Scope, Send

from cache_manager.application.leases import AcquireLease, acquire_lease
from cache_manager.application.world import World
from cache_manager.domain.entry import Cause
from cache_manager.entrypoints.http import LeaseBody
from millrace.auth import Principal, authorise
from millrace.errors import MillraceError
from millrace.http import problem
from millrace.http.observe import DURATION
from millrace.patterns import NAME_PATTERN
from millrace.telemetry import current_traceparent, span

PATH = "/v1/cache/leases"
ACTION = "cache:write"
MAX_BODY = 4_096

_BODY: TypeAdapter[LeaseBody] = TypeAdapter(LeaseBody)
_PROJECT = re.compile(NAME_PATTERN)


class LeaseDoor:
    """Grants leases itself, and hands everything else to `app`."""

    def __init__(self, app: FastAPI, world: World) -> None:
        self.app = app
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a lease, or pass it on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        message = await receive()
        principal = await self._principal(headers, message)
        cmd = None if principal is None else _command(scope, message, principal)
        if principal is None or cmd is None:
            await self.app(scope, _again(message, receive), send)
            return
        await self._answer(cmd, headers, scope, receive, send)

    async def _principal(self, headers: dict[bytes, bytes], message: Message) -> Principal | None:
        """Return who is asking; None if the app should find out, and say what is wrong."""
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or message["type"] != "http.request" or message.get("more_body"):
            return None
        if len(message.get("body", b"")) > MAX_BODY:
            return None
        try:
            principal: Principal = await self.app.state.authenticator.authenticate(token.strip())
        except MillraceError:
            return None
        return principal

    async def _answer(
        self, cmd: AcquireLease, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        traced = headers.get(b"traceparent")
        with span("POST /v1/cache/leases", parent=traced.decode("latin-1") if traced else None):
            try:
                status, answer = 200, await acquire_lease(_told(cmd), world=self._world)
            except MillraceError as error:
                refused = problem(error)
                status = refused.status_code
                await refused(scope, receive, send)
            else:
                await _send(send, answer)
        DURATION.labels("POST", PATH, str(status)).observe(time.perf_counter() - started)


def _command(scope: Scope, message: Message, principal: Principal) -> AcquireLease | None:
    """Return what is asked for, if the principal may ask for it and it is well formed."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    project = query[0][1] if query else "default"
    if len(query) > 1 or (query and query[0][0] != "project") or not _PROJECT.fullmatch(project):
        return None
    try:
        authorise(principal, ACTION, project)
        body = _BODY.validate_json(message.get("body", b""))
    except (MillraceError, ValidationError):
        return None
    cause = Cause(principal=principal.id)
    return AcquireLease(body.run, body.site, project, body.dataset, body.commit, cause, body.selection, body.early)


def _told(cmd: AcquireLease) -> AcquireLease:
    """Return the wish with the trace that it belongs to."""
    cause = Cause(principal=cmd.cause.principal, traceparent=current_traceparent())
    return replace(cmd, cause=cause)


def _again(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that begins with the message which was taken already."""
    taken = [first]

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again


async def _send(send: Send, answer: dict[str, Any]) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
