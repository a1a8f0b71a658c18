"""What Python's `os` does not offer: functions of the C library that take a handle."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


def find(name: str, *arguments: Any) -> Callable[..., int] | None:
    """Return a function of the C library, given its arguments' types; None where there is none of that name."""
    try:
        found = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = arguments, ctypes.c_int
    return found  # type: ignore[no-any-return]
