"""Values from outside that are free in form, held to what can be stored and sent again."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator

MAX_DEPTH = 16
MAX_ITEMS = 10_000
MAX_KEY = 256


def check_json(value: Any) -> Any:
    """Return `value` if BSON and JSON can both carry it.

    Raises:
        ValueError: too deep or too large, a number that is not finite or over 64 bits, a NUL, a lone surrogate.
    """
    _check(value, 0, [MAX_ITEMS])
    return value


def _check(value: Any, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise ValueError(f"deeper than {MAX_DEPTH} or more than {MAX_ITEMS} items")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str) or len(name) > MAX_KEY:
                raise ValueError(f"a key longer than {MAX_KEY}")
            _text(name)
            _check(item, depth + 1, left)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1, left)
    elif isinstance(value, str):
        _text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number over 64 bits")


def _text(value: str) -> None:
    if "\0" in value or (not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise ValueError("NUL or a lone surrogate")


JsonObject = Annotated[dict[str, Any], AfterValidator(check_json)]
"""A free JSON object of bounded depth and size."""
