"""API tokens as they are stored: a keyed hash and what the bearer may do; never the secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from catalog.domain.entity import Entity


@dataclass(frozen=True, kw_only=True)
class Token(Entity):
    """One token. `project` is where it may act, `*` everywhere."""

    hash: str
    principal: str
    kind: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] | None = None
    description: str = ""
    parent: str | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Return whether the token is neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
