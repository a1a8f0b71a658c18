"""Doing several things ahead of the one that is wanted next, and handing their results out in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

Work = Coroutine[Any, Any, T]


async def in_order(work: Iterable[Work[T]] | AsyncIterable[Work[T]], *, at_once: int) -> AsyncIterator[T]:
    """Yield what the coroutines return, in their order, with at most `at_once` of them begun and not handed out.

    `work` is asked for the next only when there is room. Whoever stops early cancels what was begun.
    """
    ahead: deque[asyncio.Task[T]] = deque()
    try:
        async for item in _each(work):
            ahead.append(asyncio.create_task(item))
            if len(ahead) >= at_once:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


async def _each(work: Iterable[Work[T]] | AsyncIterable[Work[T]]) -> AsyncIterator[Work[T]]:
    if isinstance(work, AsyncIterable):
        async for item in work:
            yield item
    else:
        for item in work:
            yield item
