"""What can go wrong here, in the words of the shared taxonomy."""

from __future__ import annotations

from millrace.errors import Conflict, Invalid, MillraceError, NotFound, Unavailable


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


class WithdrawnError(Conflict):
    """The fill was under way when its version was no longer wanted."""

    code = "cache-withdrawn"
