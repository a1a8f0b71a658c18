"""Repositories outside a transaction: the driver's errors come as ours."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from millrace.documents.failures import translated

T = TypeVar("T")


class Translating:
    """Wraps a repository, so that each of its calls raises our errors."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)
        return _translating(method) if inspect.iscoroutinefunction(method) else method


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with translated():
            return await method(*args, **kwargs)

    return call


def translating(repository: T) -> T:
    """Return `repository` with translated errors."""
    wrapped: Any = Translating(repository)
    result: T = wrapped
    return result
