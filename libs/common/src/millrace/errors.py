"""The exception tree that every service, the SDK and the CLI share.

    MillraceError
    ├── Invalid               400  the request or document is malformed or breaks a rule
    │   ├── TooLarge          413
    │   └── ChecksFailed      422  a dataset version lacks what its dataset demands
    ├── Unauthenticated       401  no principal could be established
    ├── Forbidden             403  the principal may not do this
    ├── NotFound              404  it does not exist, or not in this project
    ├── Conflict              409  it exists already, or changed meanwhile
    │   └── Fenced            409  a lease was lost: a newer token is in force
    ├── Exhausted             429  a limit is reached; waiting helps
    ├── Unavailable           503  a dependency is away; trying again helps
    │   └── DeadlineExceeded  504  no answer in time: the outcome is unknown
    └── Corrupt               500  stored bytes do not match their digest

`transient` says whether the same call may succeed later, so that taxonomy and retry are one thing: the settle
middleware, HTTP clients and the CLI all read it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MillraceError(Exception):
    """Base of everything that Millrace raises on purpose.

    `code` is stable and machine-readable, `status` the HTTP status, `transient` whether a retry can help,
    `hint` a next step for a person, `context` facts that are safe to show (never secrets).
    """

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    status: ClassVar[int] = 500
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def to_problem(self, *, instance: str | None = None) -> dict[str, Any]:
        """Return the RFC 9457 problem document of this error."""
        problem: dict[str, Any] = {
            "type": f"urn:millrace:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "transient": self.transient,
        }
        if self.hint:
            problem["hint"] = self.hint
        if instance:
            problem["instance"] = instance
        for key, value in self.context.items():
            problem.setdefault(key, value)
        return problem


class Invalid(MillraceError):
    """The input is malformed or breaks a rule; sending it again will not help."""

    code = "invalid"
    title = "Invalid input"
    status = 400


class TooLarge(Invalid):
    """The input is larger than the limit that applies to it."""

    code = "too-large"
    title = "Too large"
    status = 413


class ChecksFailed(Invalid):
    """A dataset version does not hold what its dataset demands of every version."""

    code = "checks-failed"
    title = "Checks failed"
    status = 422


class Unauthenticated(MillraceError):
    """No principal could be established from the credentials."""

    code = "unauthenticated"
    title = "Who are you?"
    status = 401


class Forbidden(MillraceError):
    """The principal is known and may not do this."""

    code = "forbidden"
    title = "Not allowed"
    status = 403


class NotFound(MillraceError):
    """The resource does not exist, or not in this project."""

    code = "not-found"
    title = "Not found"
    status = 404


class Conflict(MillraceError):
    """The resource exists already or changed since it was read."""

    code = "conflict"
    title = "Conflict"
    status = 409


class Fenced(Conflict):
    """The writer's lease was lost: a newer fencing token is in force."""

    code = "fenced"
    title = "Lease lost"


class Exhausted(MillraceError):
    """A limit is reached (rate, quota, retries); waiting can help."""

    code = "exhausted"
    title = "Limit reached"
    status = 429
    transient = True


class Unavailable(MillraceError):
    """A dependency is away; the same call may succeed later."""

    code = "unavailable"
    title = "Temporarily unavailable"
    status = 503
    transient = True


class DeadlineExceeded(Unavailable):
    """No answer came in time. The outcome is unknown, not failed."""

    code = "deadline-exceeded"
    title = "No answer in time"
    status = 504


class Corrupt(MillraceError):
    """Stored bytes do not match the digest that names them."""

    code = "corrupt"
    title = "Corrupt data"
