"""Data at URLs: listed in the event, listed in a document, or packed into one archive.

All of it passes the egress guard.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urljoin

from blake3 import blake3

from ingest.adapters.landing_store import check_names
from ingest.adapters.spool import Span, Spool
from ingest.application.ports import Bounds, Landed, Landing
from ingest.domain.places import WebPlace, shown
from ingest.errors import ContentRefused, LandingTooLarge, NothingLanded, SourceAway
from millrace.egress import Caps, EgressGuard
from millrace.errors import Forbidden, Invalid, MillraceError, NotFound, TooLarge, Unavailable

MAX_LIST = 8 * 1024 * 1024
"""Largest document that lists URLs, in bytes."""

AT_ONCE = 4
BUFFERED = 8 * 1024 * 1024
"""Bytes of one download that are kept in memory before they are written to the spool."""

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """One file to fetch: its URL, its path in the version, and its BLAKE3 where the list says it."""

    url: str
    path: str
    digest: str | None = None


class WebPlaces:
    """Fetches what lies at URLs into a spool; `seconds` bound one download."""

    def __init__(self, guard: EgressGuard, *, seconds: float) -> None:
        self._guard, self._seconds = guard, seconds

    async def files(self, place: WebPlace, bounds: Bounds, spool: Spool) -> Landing:
        """Return the files that the place lists, sorted by path.

        Raises:
            EgressRefused, NothingLanded, LandingTooLarge, ContentRefused, SourceAway: what their names say.
        """
        sources = _below(place.uri, place.urls) if place.urls else await self._listed(place)
        if len(sources) > bounds.max_files:
            raise LandingTooLarge(f"the list names more than {bounds.max_files} files")
        sources = sorted(sources, key=lambda source: source.path)
        download = _Download(self._guard, bounds.max_bytes, self._seconds, spool)
        found = await _gathered([partial(_one, download, number, source) for number, source in enumerate(sources, 1)])
        files = [Landed(source.path, pieces.size, pieces.read) for source, pieces in zip(sources, found, strict=True)]
        check_names(files, openly=bounds.openly)
        return Landing(f"{shown(place.uri).rpartition('/')[0]}/", files)

    async def archive(self, place: WebPlace, bounds: Bounds, spool: Spool) -> Pieces:
        """Return where the archive lies in the spool."""
        found, _ = await _told(_Download(self._guard, bounds.max_bytes, self._seconds, spool).fetch(place.uri), "")
        if not found.size:
            raise NothingLanded("the archive is empty")
        return found

    async def _listed(self, place: WebPlace) -> list[Source]:
        async def whole() -> bytes:
            async with self._guard.get(place.uri, Caps(MAX_LIST, self._seconds)) as answer:
                return b"".join([chunk async for chunk in answer.chunks])

        found = _parsed(await _told(whole(), "the list: "), place.uri)
        if not found:
            raise NothingLanded("the list names no file")
        return found


@dataclass(frozen=True)
class Pieces:
    """One download in the spool, where others lie between its parts."""

    spool: Spool
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return sum(span.size for span in self.spans)

    async def read(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on; fewer at the end."""
        return await asyncio.to_thread(self._read, offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        parts, start = [], 0
        for span in self.spans:
            low, high = max(offset, start), min(offset + length, start + span.size)
            if low < high:
                parts.append(self.spool.read(span, low - start, high - low))
            start += span.size
        return b"".join(parts)


class _Download:
    """Several downloads into one spool; together they take at most `limit` bytes."""

    def __init__(self, guard: EgressGuard, limit: int, seconds: float, spool: Spool) -> None:
        self._guard, self._seconds, self._spool = guard, seconds, spool
        self._left = limit

    async def fetch(self, url: str) -> tuple[Pieces, str]:
        """Return where the bytes lie, and their digest."""
        whole = blake3()
        kept, spans = bytearray(), []
        async with self._guard.get(url, Caps(self._left, self._seconds)) as answer:
            async for chunk in answer.chunks:
                self._take(chunk, whole)
                kept += chunk
                if len(kept) >= BUFFERED:
                    spans.append(await self._append(bytes(kept)))
                    kept.clear()
        spans.append(await self._append(bytes(kept)))
        return Pieces(self._spool, tuple(spans)), whole.hexdigest()

    def _take(self, chunk: bytes, whole: Any) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise LandingTooLarge("the files of the list are too large together")
        whole.update(chunk)

    async def _append(self, data: bytes) -> Span:
        return await asyncio.to_thread(self._spool.append, data)


async def _one(download: _Download, number: int, source: Source) -> Pieces:
    found, digest = await _told(download.fetch(source.url), f"URL {number} of the list: ")
    if source.digest is not None and source.digest != digest:
        raise ContentRefused(f"URL {number} of the list: its bytes do not have the digest that the list says")
    return found


async def _gathered(work: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Do everything, a few at once; the first failure in the order of the list ends it."""
    room = asyncio.Semaphore(AT_ONCE)
    failed = False

    async def one(item: Callable[[], Awaitable[T]]) -> T:
        nonlocal failed
        async with room:
            if failed:
                raise SourceAway("an earlier download failed")
            try:
                return await item()
            except MillraceError:
                failed = True
                raise

    answers = await asyncio.gather(*(one(item) for item in work), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if failures:
        raise next((item for item in failures if not isinstance(item, SourceAway)), failures[0])
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def _told(work: Awaitable[T], what: str) -> T:
    """Wait; a failure says which file it was, and one of a host outside is tried again a few times only."""
    try:
        return await work
    except Unavailable as error:
        raise SourceAway(f"{what}{error.message}") from None
    except TooLarge as error:
        raise LandingTooLarge(f"{what}{error.message}") from None
    except (Forbidden, NotFound, Invalid) as error:
        raise type(error)(f"{what}{error.message}", hint=error.hint) from None


def _below(base: str, urls: Sequence[str]) -> list[Source]:
    """Return URLs with their paths below `base`."""
    return [Source(url, unquote(shown(url).removeprefix(base))) for url in urls]


def _parsed(data: bytes, uri: str) -> list[Source]:
    """Return what a document lists: a JSON array of texts or objects, or one URL a line.

    URLs may be relative to the document. A text's path is what follows the document's folder; an object
    `{"url", "path", "blake3"}` says its own.
    """
    base = f"{shown(uri).rpartition('/')[0]}/"
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            return [_entry(item, base) for item in json.loads(text)]
    except (ValueError, RecursionError):
        raise ContentRefused("the list is neither JSON nor lines of text") from None
    return [_entry(line.strip(), base) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _entry(item: Any, base: str) -> Source:
    if isinstance(item, str):
        item = {"url": item}
    if not isinstance(item, dict) or not all(isinstance(value, str | int) for value in item.values()):
        raise ContentRefused("an entry of the list is neither a URL nor an object with one")
    url = urljoin(base, str(item.get("url", "")))
    path = item.get("path")
    if path is None and not shown(url).startswith(base):
        raise ContentRefused("a URL of the list does not lie below the list's folder, and has no path of its own")
    digest = item.get("blake3")
    own = str(path) if path is not None else unquote(shown(url).removeprefix(base))
    return Source(url, own, None if digest is None else str(digest))
