"""A cancellation is never lost: `asyncio.wait_for` of Python 3.11 is replaced by what 3.12 does.

Until 3.12, `wait_for` runs its awaitable in a task of its own. A cancellation that arrives between the end of that
task and the waiter's next turn is dropped: the call returns its result, and the caller goes on as if nobody had asked
it to stop (CPython issue 86296). PyMongo calls `wait_for` for every message that it sends, so that a loop around
database calls survives about every third `cancel()`; nats-py calls it, too. See decision 0009.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

HOLDERS = ("asyncio", "asyncio.tasks", "pymongo.lock")
"""Modules that have the function under its own name."""


async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - the signature that is replaced
    """Return what `fut` gives, awaited in the caller's own task.

    Raises:
        TimeoutError: not within `timeout` seconds; `fut` is cancelled then.
    """
    if timeout is None or timeout > 0:
        async with asyncio.timeout(timeout):
            return await fut
    return await _at_once(asyncio.ensure_future(fut))


async def _at_once(future: asyncio.Future[T]) -> T:
    """Return a result that is there already; one that is not is cancelled."""
    if not future.done():
        future.cancel()
        await asyncio.wait([future])
    if future.cancelled():
        raise TimeoutError
    return future.result()


def mend_wait_for() -> None:
    """Replace `asyncio.wait_for` on Python 3.11, once. Later versions need nothing."""
    if sys.version_info >= (3, 12):
        return
    for name in HOLDERS:
        if (module := sys.modules.get(name)) is not None:
            module.wait_for = wait_for  # type: ignore[attr-defined]
