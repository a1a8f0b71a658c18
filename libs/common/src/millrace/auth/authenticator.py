"""From a bearer token to a principal: by asking the catalog, with a short memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Protocol

import httpx

from millrace.auth.decision import Principal
from millrace.auth.tokens import parse
from millrace.clock import Clock
from millrace.errors import Unauthenticated, Unavailable

REMEMBER_SECONDS = 30.0
MAX_REMEMBERED = 4_096


class Authenticator(Protocol):
    """Where a service learns who is asking."""

    async def authenticate(self, token: str) -> Principal:
        """Return the principal of an API token.

        Raises:
            Unauthenticated: the token is malformed, unknown, expired or revoked.
            Unavailable: nobody can say at the moment.
        """


class IntrospectingAuthenticator:
    """Asks `POST /v1/tokens/introspect` and remembers the answer for 30 s: that long a revocation may take.

    Answers are keyed by a hash, so that a memory dump of the cache holds no token.
    """

    def __init__(self, client: httpx.AsyncClient, *, own_token: str, clock: Clock) -> None:
        self._client = client
        self._own_token = own_token
        self._clock = clock
        self._asking: dict[bytes, asyncio.Future[Principal | None]] = {}
        self._known: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()

    async def authenticate(self, token: str) -> Principal:
        """Return the principal of an API token."""
        parse(token)
        key = blake2b(token.encode(), digest_size=32).digest()
        remembered = self._known.get(key)
        if remembered is None or self._clock.monotonic() - remembered[0] > REMEMBER_SECONDS:
            remembered = (self._clock.monotonic(), await self._ask_once(key, token))
            self._known[key] = remembered
            self._known.move_to_end(key)
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        if remembered[1] is None:
            raise Unauthenticated("the token is unknown, expired or revoked")
        return remembered[1]

    async def _ask_once(self, key: bytes, token: str) -> Principal | None:
        """Ask, or wait for the answer that another request of the same token asked for already."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask(token))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, token: str) -> Principal | None:
        try:
            response = await self._client.post(
                "/v1/tokens/introspect",
                json={"token": token},
                headers={"authorization": f"Bearer {self._own_token}"},
                timeout=5.0,
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"the catalog cannot be asked who this is: {type(error).__name__}") from None
        if response.status_code != httpx.codes.OK:
            raise Unavailable(f"the catalog answered {response.status_code} to a token introspection")
        return principal_from(response.json())


def principal_from(answer: dict[str, Any]) -> Principal | None:
    """Return the principal of an introspection answer (RFC 7662 style: `active` says whether there is one)."""
    if answer.get("active") is not True:
        return None
    scopes = answer.get("scopes")
    return Principal(
        id=answer["principal"],
        kind=answer["kind"],
        project=answer["project"],
        roles=frozenset(answer["roles"]),
        scopes=None if scopes is None else frozenset(scopes),
        token_id=answer.get("token"),
    )


def introspection(principal: Principal) -> dict[str, Any]:
    """Return the introspection answer of a principal: the inverse of `principal_from`."""
    return {
        "active": True,
        "principal": principal.id,
        "kind": principal.kind,
        "project": principal.project,
        "roles": sorted(principal.roles),
        "scopes": None if principal.scopes is None else sorted(principal.scopes),
        "token": principal.token_id,
    }
