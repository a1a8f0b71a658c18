"""The catalog's own authenticator: it holds the tokens, so it asks nobody."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from catalog.application.ports import Documents
from catalog.application.tokens import find_principal
from millrace.auth import Principal
from millrace.clock import Clock

REMEMBER_SECONDS = 2.0
MAX_REMEMBERED = 1_024


class CatalogAuthenticator:
    """Looks tokens up, and remembers good ones for two seconds, keyed by a hash.

    `used` collects the ids of tokens that were seen, until somebody writes down their last use.
    """

    def __init__(self, documents: Documents, pepper: bytes, clock: Clock) -> None:
        self._documents = documents
        self._pepper = pepper
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self.used: set[str] = set()

    async def authenticate(self, token: str) -> Principal:
        """Return the principal of an API token."""
        key = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        remembered = self._known.get(key)
        if remembered is not None and self._clock.monotonic() - remembered[0] < REMEMBER_SECONDS:
            return remembered[1]
        self._known.pop(key, None)
        principal = await find_principal(token, documents=self._documents, pepper=self._pepper, now=self._clock.now())
        self._known[key] = (self._clock.monotonic(), principal)
        if principal.token_id is not None:
            self.used.add(principal.token_id)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return principal

    def forget(self) -> None:
        """Forget everything, so that a revocation holds here at once."""
        self._known.clear()
