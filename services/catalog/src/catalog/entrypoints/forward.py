"""The gateway's forwarding: a static prefix table, the caller's own token, bodies streamed both ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse

from catalog.entrypoints.docs.whole import Part
from millrace.clock import Clock, SystemClock
from millrace.errors import DeadlineExceeded, Unavailable
from millrace.telemetry import current_traceparent

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
NOT_SENT = HOP_BY_HOP | {"host", "content-length", "cookie", "forwarded", "x-forwarded-for", "x-forwarded-host"}
NOT_RETURNED = HOP_BY_HOP | {"server", "date", "x-request-id", "x-content-type-options", "set-cookie"}

DESCRIBE_SECONDS, DESCRIBED_SECONDS = 1.5, 60.0
DEADLINE = httpx.Timeout(30.0, connect=2.0)


class Forwarder:
    """Sends requests to the services that own them."""

    def __init__(self, table: Mapping[str, tuple[str, str]], client: httpx.AsyncClient) -> None:
        self._table = dict(table)
        self._client = client
        self._clock: Clock = SystemClock()
        self._described: dict[str, Any] = {}
        self._described_until = float("-inf")
        self._describing = asyncio.Lock()

    @property
    def prefixes(self) -> list[str]:
        """Return the forwarded path prefixes."""
        return list(self._table)

    async def descriptions(self) -> list[Part]:
        """Return each owner's OpenAPI document, or the last that was seen of it; one never seen is left out.

        Anybody may ask, so the owners are asked once at a time, and not again for a while once all have answered.
        """
        owners = sorted(set(self._table.values()))
        async with self._describing:
            if self._clock.monotonic() >= self._described_until:
                known = await asyncio.gather(*(self._describe(service, base) for service, base in owners))
                age = DESCRIBED_SECONDS if all(known) else DESCRIBE_SECONDS
                self._described_until = self._clock.monotonic() + age
        return [
            Part(service, self._prefixes_of(service), self._described[service])
            for service, _ in owners
            if service in self._described
        ]

    async def _describe(self, service: str, base: str) -> bool:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = await self._client.get(f"{base.rstrip('/')}/openapi.json", timeout=DESCRIBE_SECONDS)
            if answer.status_code == httpx.codes.OK:
                self._described[service] = answer.json()
                return True
        return False

    def _prefixes_of(self, service: str) -> tuple[str, ...]:
        return tuple(prefix for prefix, (owner, _) in self._table.items() if owner == service)

    async def forward(self, request: Request, prefix: str) -> StreamingResponse:
        """Pass a request on and its answer back.

        Raises:
            Unavailable: the owner is away.
            DeadlineExceeded: it did not answer in time.
        """
        service, base = self._table[prefix]
        body = request.stream() if request.method in {"POST", "PUT", "PATCH", "DELETE"} and _has_body(request) else None
        query = f"?{request.url.query}" if request.url.query else ""
        outgoing = self._client.build_request(
            request.method,
            f"{base.rstrip('/')}{request.scope['raw_path'].decode('ascii', 'replace').partition('?')[0]}{query}",
            headers=_outgoing(request),
            content=body,
            timeout=DEADLINE,
        )
        try:
            answer = await self._client.send(outgoing, stream=True)
        except httpx.TimeoutException:
            raise DeadlineExceeded(f"{service} did not answer in time", service=service) from None
        except httpx.HTTPError:
            raise Unavailable(f"{service} is away", hint=f"is {service} up? see /readyz", service=service) from None
        return StreamingResponse(
            _body(answer),
            status_code=answer.status_code,
            headers=_returned(answer),
            background=BackgroundTask(answer.aclose),
        )


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _outgoing(request: Request) -> dict[str, str]:
    named = {name.strip().lower() for name in request.headers.get("connection", "").split(",")}
    headers = {name: value for name, value in request.headers.items() if name not in NOT_SENT | named}
    if length := request.headers.get("content-length"):
        headers["content-length"] = length
    if traceparent := current_traceparent():
        headers["traceparent"] = traceparent
    return headers


def _returned(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in NOT_RETURNED}


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in answer.aiter_raw():
        yield chunk
