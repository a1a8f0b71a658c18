"""One request to the gateway, and what makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

R = TypeVar("R")

Json = Any
"""What the API answers: JSON types."""


@dataclass(frozen=True)
class Call:
    """One request to the gateway. `key` makes a POST idempotent; the client makes one up where there is none."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


def path_of(*parts: str | int) -> str:
    """Return the path of a route, each part escaped."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


class Caller(Generic[R]):
    """Makes calls. `R` is `Json` for the synchronous client, `Awaitable[Json]` for the other."""

    def do(self, call: Call) -> R:
        """Make the call and return its JSON.

        Raises:
            MillraceError: what the API answered, or `Unavailable` where it did not.
        """
        raise NotImplementedError

    def request(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None) -> R:
        """Call any route."""
        return self.do(Call(method, path, params or {}, body))
