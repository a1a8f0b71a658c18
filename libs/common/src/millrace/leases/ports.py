"""What a lease is. Free of drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Lease:
    """The right to act as `name`. `token` only rises: whoever writes passes it, and a lower one is refused."""

    name: str
    holder: str
    token: int


class Leases(Protocol):
    """Where leases are taken. `LeaseStore` is it on MongoDB, `InMemoryLeaseStore` in tests."""

    ttl: float
    """Seconds without a beat, on the observer's own monotonic clock, after which a lease may be taken over."""

    async def acquire(self, name: str, holder: str) -> Lease | None:
        """Return a lease with a higher token than any before, or None while somebody else holds it.

        Call it again and again: a takeover needs this observer to have seen no beat for `ttl` seconds.
        """

    async def renew(self, lease: Lease) -> None:
        """Beat.

        Raises:
            Fenced: the lease was released or taken over.
        """

    async def release(self, lease: Lease) -> None:
        """Give the lease up, if it is still held under this token."""

    async def check(self, lease: Lease) -> None:
        """Raise `Fenced` unless the lease is held under this token at this moment."""
