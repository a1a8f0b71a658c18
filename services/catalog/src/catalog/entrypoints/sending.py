"""How files are sent: as attachments that no browser shows as a page of this origin, with a tag that never lies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

from millrace.errors import Exhausted, NotFound


def headers_of(tag: str, filename: str, *, inline: bool = False) -> dict[str, str]:
    """Return the headers of something that never changes; `tag` names its bytes."""
    kind = "inline" if inline else "attachment"
    return {
        "etag": f'"{tag}"',
        "cache-control": "private, no-cache",
        "content-disposition": f"{kind}; filename*=UTF-8''{quote(filename, safe='')}",
        "x-content-type-options": "nosniff",
    }


def is_known(tag: str, header: str | None) -> bool:
    """Return whether `If-None-Match` names the tag (RFC 9110, section 13.1.2)."""
    named = {item.strip().removeprefix("W/") for item in (header or "").split(",")}
    return f'"{tag}"' in named or "*" in named


async def begun(parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Return an iterator over the same parts once the first is there: what fails before can still be said in words."""
    following = aiter(parts)
    first = await anext(following, None)
    if first is None:
        raise NotFound("there is nothing to send")
    return _rest(first, following)


async def _rest(first: bytes, following: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with closed(following):
        yield first
        async for part in following:
            yield part


@contextlib.asynccontextmanager
async def closed(parts: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Close what the parts come from as soon as they are not wanted any more, and not when memory is looked through."""
    try:
        yield
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()


class Paced(StreamingResponse):
    """A response whose reader has to take each piece within `patience` seconds; else the connection is broken."""

    def __init__(self, parts: AsyncIterator[bytes], *, patience: float, **options: Any) -> None:
        super().__init__(parts, **options)
        self._parts, self._patience = parts, patience

    async def stream_response(self, send: Send) -> None:
        """Send the pieces; raises TimeoutError, which ends the connection, when one is not taken."""

        async def paced(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        async with closed(self._parts):
            await super().stream_response(paced)


class Slots:
    """So many at once in this process, and no more: who finds none free is told to come again."""

    def __init__(self, count: int, what: str) -> None:
        self._free = self._count = count
        self._what = what

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold a slot.

        Raises:
            Exhausted: none is free.
        """
        if not self._free:
            raise Exhausted(f"{self._count} {self._what} already", hint="try again soon")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def held(self, parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the parts, holding a slot from the first to the last. Raises Exhausted."""
        following = aiter(parts)
        with self.one():
            async with closed(following):
                async for part in following:
                    yield part
