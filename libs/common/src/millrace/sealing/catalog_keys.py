"""A service's way to projects' keys: the catalog's API, with the service's own token."""

from __future__ import annotations

from typing import Any

import httpx

from millrace.clock import Clock
from millrace.errors import Forbidden, Unavailable
from millrace.sealing.key import ProjectKey
from millrace.sealing.ring import KeyMemory, Known

SECONDS = 10.0


def catalog_keys(client: httpx.AsyncClient, *, token: str, clock: Clock) -> KeyMemory:
    """Return the key ring of a service; the client's base is the catalog's address.

    A key that cannot be had now is `Unavailable`: what needs it waits, and says why. So does a catalog that knows of no
    encryption yet: until it is upgraded nobody can say that a project is not encrypted.
    """

    async def ask(project: str) -> Known:
        state = await _get(client, "/v1/encryption", project, token)
        if not state["encrypted"]:
            return Known(None, settled=bool(state["settled"]))
        found = await _get(client, "/v1/encryption/key", project, token)
        return Known(ProjectKey.from_text(project, str(found["key"])), settled=True)

    return KeyMemory(ask, clock)


async def _get(client: httpx.AsyncClient, path: str, project: str, token: str) -> Any:
    try:
        answer = await client.get(
            path, params={"project": project}, headers={"authorization": f"Bearer {token}"}, timeout=SECONDS
        )
    except httpx.HTTPError as error:
        raise Unavailable(f"the catalog cannot be asked for a project's key: {type(error).__name__}") from None
    if answer.status_code == httpx.codes.FORBIDDEN:
        raise Forbidden(f"this service may not have the key of project {project}")
    if answer.status_code != httpx.codes.OK:
        raise Unavailable(f"the catalog gives no key of project {project}: {_reason(answer)}")
    return answer.json()


def _reason(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {str(answer.json()['detail'])[:500]}"
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)
