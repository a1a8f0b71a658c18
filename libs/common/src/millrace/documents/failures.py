"""Driver errors as ours, so that taxonomy and retry stay one thing.

A timeout is *unknown*: the write may have happened. Callers repeat it under the same idempotency key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import InvalidDocument
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from millrace.errors import Conflict, DeadlineExceeded, Invalid, MillraceError, TooLarge, Unavailable

DUPLICATE_KEY = 11_000
REFUSED_BY_SCHEMA = 121
NO_RIGHTS = frozenset({13, 18})


def translate(error: PyMongoError) -> MillraceError:
    """Return the error of ours that says what `error` means for the caller."""
    if _is_duplicate(error):
        return Conflict("a document with this key exists already")
    if isinstance(error, DocumentTooLarge):
        return TooLarge("the document is larger than MongoDB stores")
    if _code(error) == REFUSED_BY_SCHEMA:
        return Invalid("the document is not valid for its collection")
    return _unavailable(error)


def _unavailable(error: PyMongoError) -> Unavailable:
    if error.timeout or isinstance(error, (ExecutionTimeout, NetworkTimeout, WTimeoutError)):
        return DeadlineExceeded("no answer from MongoDB in time; the outcome is unknown")
    if isinstance(error, ConnectionFailure):
        return Unavailable("MongoDB cannot be reached")
    if _code(error) in NO_RIGHTS:
        return Unavailable("MongoDB refuses this user", hint="check the connection string's user and its roles")
    return Unavailable(f"MongoDB answered with {type(error).__name__} (code {_code(error)})")


@contextmanager
def translated() -> Iterator[None]:
    """Raise driver errors of the body as ours; for calls outside a transaction.

    Inside a transaction leave errors alone: the transactor needs their labels to decide on a retry.
    """
    try:
        yield
    except PyMongoError as error:
        raise translate(error) from error
    except InvalidDocument:
        raise Invalid("the document holds what MongoDB cannot store") from None


def has_label(error: BaseException, label: str) -> bool:
    """Return whether `error`, or a driver error that caused it, carries the server's error label."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PyMongoError) and cause.has_error_label(label):
            return True
        cause = cause.__cause__
    return False


def _code(error: PyMongoError) -> int | None:
    return error.code if isinstance(error, OperationFailure) else None


def _is_duplicate(error: PyMongoError) -> bool:
    if isinstance(error, DuplicateKeyError):
        return True
    if isinstance(error, BulkWriteError):
        failures = (error.details or {}).get("writeErrors", [])
        return any(failure.get("code") == DUPLICATE_KEY for failure in failures)
    return False
