"""The gateway's API, called in process with the session's own rights: one authorisation decision for every door."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import FastAPI

from catalog.errors import VersionRemoved
from millrace.clock import new_id
from millrace.errors import (
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    MillraceError,
    NotFound,
    Unauthenticated,
    Unavailable,
)

_ERRORS: dict[int, type[MillraceError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: VersionRemoved,
    413: Invalid,
    429: Exhausted,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


FACTS = ("reason", "used_by", "failures")
"""What pages show of a refusal, beside its words."""


class ConsoleApi:
    """Calls `/v1/…` of the same process as the session's principal."""

    def __init__(self, app: FastAPI, token: str, *, project: str) -> None:
        self.project = project
        self._app = app
        self._token = token

    @property
    def authorization(self) -> str:
        """Return the header by which the session says who it is."""
        return f"Bearer {self._token}"

    async def get(self, path: str, /, **params: Any) -> Any:
        """Return the JSON of `GET path`."""
        return await self._call("GET", path, params=params)

    async def items(self, path: str, /, **params: Any) -> list[dict[str, Any]]:
        """Return the items of a list, or none while its owner is away, so that a page still shows the rest."""
        try:
            answer = await self.get(path, **params)
        except Unavailable:
            return []
        found: list[dict[str, Any]] = answer["items"]
        return found

    async def beginning(self, path: str, length: int) -> bytes:
        """Return the first `length` bytes of a file at `GET path`."""
        response = await self._send("GET", path, headers={"range": f"bytes=0-{length - 1}"})
        return b"" if response.status_code == 416 else _checked(response).content

    async def post(self, path: str, body: Any) -> Any:
        """Return the JSON of `POST path`, with a fresh idempotency key."""
        return await self._call("POST", path, json=body, headers={"idempotency-key": str(new_id())})

    async def put(self, path: str, body: Any) -> Any:
        """Return the JSON of `PUT path`."""
        return await self._call("PUT", path, json=body)

    async def delete(self, path: str, /, **params: Any) -> Any:
        """Return the JSON of `DELETE path`."""
        return await self._call("DELETE", path, params=params)

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        response = _checked(await self._send(method, path, **options))
        return response.json() if response.content else {}

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": self.authorization, **options.pop("headers", {})}
        params = {"project": self.project, **{k: v for k, v in options.pop("params", {}).items() if v is not None}}
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://console", timeout=10) as client:
            return await client.request(method, path, params=params, headers=headers, **options)


def _checked(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise _error(response)
    return response


def _error(response: httpx.Response) -> MillraceError:
    cls = _ERRORS.get(response.status_code, MillraceError)
    try:
        problem = dict(response.json())
    except (TypeError, ValueError):
        return cls(f"the API answered {response.status_code}")
    said = str(problem.get("detail") or problem.get("title"))
    return cls(said, hint=problem.get("hint"), **{name: problem[name] for name in FACTS if name in problem})
