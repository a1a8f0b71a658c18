"""Errors of the trainer."""

from __future__ import annotations

from millrace.errors import Conflict, NotFound, Unavailable


class JobNotFound(NotFound):
    """There is no such run in the queue."""

    code = "job-not-found"


class IllegalMove(Conflict):
    """The job's state does not allow this."""

    code = "illegal-move"


class NotCached(Unavailable):
    """The version is not readable at the site yet; the message says why."""

    code = "not-cached"


class LeaseGone(Conflict):
    """The cache manager no longer knows the run's lease."""

    code = "cache-lease-gone"
