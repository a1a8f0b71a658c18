"""The clients: `Catalog` (synchronous) and `AsyncCatalog`. Same methods, same errors, same patience.

A call that fails for a passing reason (no connection, 429, 502, 503, 504) is tried again with a growing, jittered pause
until `patience` seconds are over. That is safe: reads change nothing, PUT and DELETE are idempotent, and every POST
carries an idempotency key that stays the same over its attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from millrace.clock import Clock, SystemClock, new_id
from millrace.errors import (
    ChecksFailed,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    Fenced,
    Forbidden,
    Invalid,
    MillraceError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from millrace_sdk.calls import Call, Calls, Json
from millrace_sdk.discovery import Access, connection

if TYPE_CHECKING:
    from millrace.sealing import KeyMemory

TIMEOUT_SECONDS = 15.0
PATIENCE_SECONDS = 20.0

_BY_CODE: dict[str, type[MillraceError]] = {
    "checks-failed": ChecksFailed,
    "fenced": Fenced,
    "too-large": TooLarge,
}
_BY_STATUS: dict[int, type[MillraceError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: TooLarge,
    422: Invalid,
    429: Exhausted,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
_KNOWN = frozenset({"type", "title", "status", "detail", "code", "transient", "hint", "instance"})


def error_from(response: httpx.Response) -> MillraceError:
    """Return the error that a problem document describes."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    cls = _BY_CODE.get(str(problem.get("code"))) or _BY_STATUS.get(response.status_code, MillraceError)
    message = str(problem.get("detail") or problem.get("title") or f"the gateway answered {response.status_code}")
    context = {str(key): value for key, value in problem.items() if key not in _KNOWN}
    context["request_id"] = response.headers.get("x-request-id")
    return cls(message, hint=problem.get("hint"), **context)


def _answer(response: httpx.Response) -> Json:
    if not response.is_success:
        raise error_from(response)
    try:
        return response.json() if response.content else None
    except ValueError:
        raise Unavailable("the gateway's answer is not JSON", hint="is this really a Millrace gateway?") from None


class _Attempts:
    """When to try again, and when to give up."""

    def __init__(self, clock: Clock, patience: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + patience
        self._delay = 0.1

    def pause(self, error: MillraceError) -> float:
        """Return the seconds to wait before the next attempt; raise the error if it is final."""
        delay = self._delay * random.uniform(0.7, 1.3)  # noqa: S311 - jitter, not a secret
        if not error.transient or self._clock.monotonic() + delay > self._end:
            raise error
        self._delay = min(self._delay * 2, 2.0)
        return delay


class _Base:
    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        token_file: str | None = None,
        project: str = "default",
        timeout: float = TIMEOUT_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        found = connection(url, token, token_file=token_file)
        self.url = found.url
        self.project = project
        self._clock = SystemClock()
        self._patience = patience
        self._options: dict[str, Any] = {
            "base_url": found.url,
            "timeout": timeout,
            "headers": {"authorization": f"Bearer {found.token}"},
            "follow_redirects": False,
        }

    @classmethod
    def of(cls, access: Access, **options: Any) -> Self:
        """Return a client that connects as `access` says."""
        return cls(access.url, token=access.token, token_file=access.token_file, **options)

    def _arguments(self, call: Call) -> dict[str, Any]:
        headers = dict(call.headers)
        if call.method == "POST":
            headers["idempotency-key"] = call.key or str(new_id())
        params = {"project": self.project, **{k: v for k, v in call.params.items() if v is not None}}
        return {"method": call.method, "url": call.path, "params": params, "json": call.body, "headers": headers}

    def _failure(self, error: httpx.HTTPError) -> Unavailable:
        hint = "is the platform up? `millrace status` tells"
        if isinstance(error, httpx.TimeoutException):
            return DeadlineExceeded(f"no answer from {self.url} in time", hint=hint)
        return Unavailable(f"cannot reach {self.url}: {error}", hint=hint)


class Catalog(_Base, Calls[Json]):
    """The synchronous client of the gateway; usable from several threads.

    Args (all optional): `url`, `token` or `token_file`: else from the environment or the embedded stack; `project`;
    `timeout`: seconds per attempt; `patience`: seconds over all attempts.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self._http = httpx.Client(**self._options)

    def do(self, call: Call) -> Json:
        """Make the call and return its JSON."""
        attempts, arguments = _Attempts(self._clock, self._patience), self._arguments(call)
        while True:
            try:
                return _answer(self._http.request(**arguments))
            except httpx.HTTPError as error:
                delay = attempts.pause(self._failure(error))
            except MillraceError as error:
                delay = attempts.pause(error)
            time.sleep(delay)

    @contextlib.contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """Make the call once, and give its answer while it comes; nothing is tried again.

        Raises:
            MillraceError: what the API answered, or `Unavailable` where it did not, also in the middle.
        """
        try:
            with self._http.stream(**self._arguments(call)) as response:
                if not response.is_success:
                    response.read()
                    raise error_from(response)
                yield response
        except httpx.HTTPError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCatalog(_Base, Calls[Awaitable[Json]]):
    """The asynchronous client of the gateway; arguments as for `Catalog`.

    `keys` remembers the key of an encrypted project for the stores that this client opens.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self.keys: KeyMemory | None = None
        self._http = httpx.AsyncClient(**self._options)

    async def do(self, call: Call) -> Json:
        """Make the call and return its JSON."""
        attempts, arguments = _Attempts(self._clock, self._patience), self._arguments(call)
        while True:
            try:
                return _answer(await self._http.request(**arguments))
            except httpx.HTTPError as error:
                delay = attempts.pause(self._failure(error))
            except MillraceError as error:
                delay = attempts.pause(error)
            await asyncio.sleep(delay)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
