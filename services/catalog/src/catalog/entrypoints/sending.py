"""How files are sent: as attachments that no browser shows as a page of this origin, with a tag that never lies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from urllib.parse import quote

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
    yield first
    async for part in following:
        yield part


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
        with self.one():
            async for part in parts:
                yield part
