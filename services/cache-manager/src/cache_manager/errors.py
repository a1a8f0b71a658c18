"""What can go wrong here, in the words of the shared taxonomy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace.errors import Conflict, Exhausted, Invalid, MillraceError, NotFound, Unavailable

if TYPE_CHECKING:
    from cache_manager.domain.charge import Quota


class SiteNotFound(NotFound):
    """No such site is configured."""

    code = "site-not-found"


class SiteInvalid(Invalid):
    """The path cannot be a cache site."""

    code = "site-invalid"


class EntryNotFound(NotFound):
    """No such cache entry in this project."""

    code = "cache-entry-not-found"


class EntryNotReady(Conflict):
    """The version is not ready at the site yet; the context says why and how far it is."""

    code = "cache-entry-not-ready"
    title = "Not ready"


class LeaseLost(Conflict):
    """The lease ended: released, expired, or replaced by a later one of the same run."""

    code = "cache-lease-lost"
    title = "Lease lost"


class IllegalMove(MillraceError):
    """The state machine has no such move: a bug here, never the caller's."""

    code = "illegal-move"


class SiteUnavailable(Unavailable):
    """The site's directory cannot be used at the moment (an export that is not mounted, say)."""

    code = "site-unavailable"


class SiteDraining(Conflict):
    """The site is being emptied: nothing new comes to it."""

    code = "site-draining"
    transient = True


class SiteInUse(Conflict):
    """Something is kept at the site."""

    code = "site-in-use"


class Pinned(Conflict):
    """A pin keeps the copy."""

    code = "cache-entry-pinned"


class RuleNotFound(NotFound):
    """No such rule."""

    code = "cache-rule-not-found"


class NoSiteError(Conflict):
    """No site can take the version."""

    code = "cache-no-site"


class NoRoomError(Exhausted):
    """A reservation found no room; `quota` is the one that is full, None if it is the site."""

    code = "cache-no-room"

    def __init__(self, message: str, *, quota: Quota | None = None) -> None:
        super().__init__(message)
        self.quota = quota


class WithdrawnError(Conflict):
    """The fill was under way when its version was no longer wanted."""

    code = "cache-withdrawn"
