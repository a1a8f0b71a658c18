"""obstore's exceptions, in our taxonomy.

obstore names a few cases; everything else is a `GenericError` whose text carries the HTTP status, or none where the
connection failed. Servers differ: S3 and Azure answer in XML with a code, Google also in JSON, and a range that begins
at an object's end is refused by some and answered in full by others, which obstore then notices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from obstore import exceptions

from millrace.errors import DeadlineExceeded, Forbidden, Invalid, MillraceError, NotFound, Unavailable

T = TypeVar("T")

_STATUS = re.compile(r"status code: (\d{3})|\(code: (\d{3})\)")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_PAST_THE_END = re.compile(r"Wanted range starting at \d+, but object was only")
_TIMEOUT = re.compile(r"timed ?out|TimedOut|timeout", re.IGNORECASE)


def translated(key: str, call: Callable[[], T]) -> T:
    """Call, and raise our error where obstore raises its own. `key` is only named in the message."""
    try:
        return call()
    except MillraceError:
        raise
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise translate(error, key) from error


def translate(error: Exception, key: str) -> MillraceError:
    """Return our error for one of obstore's; never with request headers or signatures in its text."""
    text = str(error)
    code = _CODE.search(text)
    said = f" ({code.group(1)})" if code else ""
    status = int(found.group(1) or found.group(2)) if (found := _STATUS.search(text)) else None
    if isinstance(error, FileNotFoundError) or status == 404:
        return NotFound(f"no such object: {key}{said}", key=key)
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or status in {401, 403}:
        return Forbidden(f"the object store refuses access to {key}{said}", hint="check the lake's keys and bucket")
    if status == 416 or _PAST_THE_END.search(text):
        return Invalid(f"object {key} ends before the range asked for")
    if isinstance(error, ValueError | exceptions.InvalidPathError) or (
        status and 400 <= status < 500 and status != 429
    ):
        return Invalid(f"the object store refuses the request for {key}{said}")
    if status is None and _TIMEOUT.search(text):
        return DeadlineExceeded(f"the object store did not answer in time ({key})")
    return Unavailable(f"the object store is not available for {key}{said}", hint="is the lake's endpoint up?")
