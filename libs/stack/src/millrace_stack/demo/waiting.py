"""Waiting on states, with a deadline that says what it waited for and what it saw last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from millrace.clock import SystemClock
from millrace.errors import DeadlineExceeded, MillraceError

T = TypeVar("T")

POLL_SECONDS = 0.1


class StepFailed(Exception):
    """A step of the demo did not really happen."""


def until(what: str, look: Callable[[], T | None], *, seconds: float, now: Callable[[], Any] | None = None) -> T:
    """Return what `look` finds, as soon as it finds something.

    Errors that may pass (a service that restarts) count as "not yet". `now` describes the present state for the
    message of the failure.

    Raises:
        StepFailed: nothing was found in time.
    """
    clock = SystemClock()
    end = clock.monotonic() + seconds
    last = "nothing seen"
    while clock.monotonic() < end:
        try:
            found = look()
        except MillraceError as error:
            if not error.transient and not isinstance(error, DeadlineExceeded) and error.status != 404:
                raise
            found, last = None, error.message
        if found is not None:
            return found
        time.sleep(POLL_SECONDS)
    raise StepFailed(f"{what}: not within {seconds:g} s ({now() if now else last})")
