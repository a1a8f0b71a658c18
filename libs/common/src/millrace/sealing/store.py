"""The object store in which encrypted projects' datasets are sealed: `ObjectStore` over any other."""

from __future__ import annotations

import asyncio
import builtins
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from millrace.datasets.keys import (
    LAKE_KINDS,
    SEALED,
    LakeKind,
    find_lake_key,
    is_project,
    lake_key,
    sealed_key,
    sealed_prefix,
)
from millrace.errors import Corrupt, Invalid, MillraceError, NotFound
from millrace.objects.port import Method, ObjectInfo, ObjectStore, Presigned, check_key
from millrace.objects.ranges import Span, coalesce, slices
from millrace.sealing.content import check_content
from millrace.sealing.key import ProjectKey
from millrace.sealing.ring import KeyRing
from millrace.sealing.segments import SEGMENT, STORED, Data, Segments, plain_size, sealed_size, stored_span

REMEMBERED_SIZES = 65_536


@dataclass(frozen=True, slots=True)
class _Place:
    """An object as callers know it, and where and how it lies."""

    kind: LakeKind
    digest: str
    stored: str
    segments: Segments


class SealedStore:
    """`ObjectStore` over `inner`: what an encrypted project's datasets consist of is sealed, all else passes as it is.

    Keys, sizes and ranges are those of the plain objects. A range is served by whole segments of 64 KiB, for which the
    object's size is asked for once. With `names=False` the store below seals names itself, as the gateway does that
    hands out signed URLs. `check` refuses bytes that are not what their name says.
    """

    def __init__(
        self,
        inner: ObjectStore,
        ring: KeyRing,
        *,
        names: bool = True,
        check: Callable[[LakeKind, str, Data], None] = check_content,
    ) -> None:
        self._inner = inner
        self._ring = ring
        self._names = names
        self._check = check
        self._sizes: OrderedDict[str, int] = OrderedDict()

    async def put(self, key: str, data: Data, *, create_only: bool = False) -> bool:
        """Seal and store an object.

        Raises:
            Invalid: its bytes are not what its name says.
        """
        place = await self._find(key)
        if place is None:
            return await self._inner.put(key, data, create_only=create_only)
        sealed = await asyncio.to_thread(self._seal, place, data)
        return await self._inner.put(place.stored, sealed, create_only=create_only)

    def _seal(self, place: _Place, data: Data) -> memoryview:
        self._check(place.kind, place.digest, data)
        return place.segments.seal(data)

    async def get(self, key: str) -> bytes:
        """Return an object's bytes; Corrupt where they are not what was sealed."""
        place = await self._find(key)
        if place is None:
            return await self._inner.get(key)
        try:
            sealed = await self._inner.get(place.stored)
        except NotFound:
            raise _missing(key) from None
        return await asyncio.to_thread(place.segments.open, sealed)

    async def get_into(self, key: str, buffer: memoryview) -> int:
        """Read an object into a buffer; Corrupt where it is not what was sealed."""
        place = await self._find(key)
        if place is None:
            return await self._inner.get_into(key, buffer)
        sealed = np.empty(sealed_size(len(buffer)), np.uint8).data  # not cleared, as in `Segments.seal`
        try:
            stored = await self._inner.get_into(place.stored, sealed)
        except NotFound:
            raise _missing(key) from None
        if stored <= len(sealed):
            return await asyncio.to_thread(place.segments.open_into, sealed[:stored], buffer)
        if (size := plain_size(stored)) is None:
            raise Corrupt(f"object {key} cannot have been sealed to {stored} bytes", key=key)
        return size

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly that range; see the port."""
        return (await self.get_ranges(key, [(start, length)]))[0]

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return all ranges; Corrupt where a segment that they touch is not what was sealed."""
        place = await self._find(key)
        if place is None:
            return await self._inner.get_ranges(key, ranges)
        spans = coalesce(ranges)
        if not spans:
            return [b""] * len(ranges)
        stored = await self._size(key, place)
        if stored < 0:
            whole = await self.get(key)
            _inside(key, len(whole), spans)
            return slices(ranges, [(span, whole[span.start : span.start + span.length]) for span in spans])
        try:
            return await self._cut(key, place, ranges, spans, stored)
        except MillraceError as error:
            self._sizes.pop(place.stored, None)
            raise _missing(key) if isinstance(error, NotFound) else error from None

    async def _cut(
        self, key: str, place: _Place, ranges: Sequence[tuple[int, int]], spans: Sequence[Span], stored: int
    ) -> Sequence[bytes]:
        """Fetch the whole segments around each span, open them, and cut the ranges out of them."""
        if (size := plain_size(stored)) is None:
            raise Corrupt(f"object {key} cannot have been sealed to {stored} bytes", key=key)
        _inside(key, size, spans)
        wanted = [stored_span(span.start, span.length, stored) for span in spans]
        found = await self._inner.get_ranges(place.stored, wanted)

        def cut() -> builtins.list[bytes]:
            opened = []
            for span, (start, _), part in zip(spans, wanted, found, strict=True):
                whole = place.segments.open_part(part, start, stored)
                opened.append((Span(start // STORED * SEGMENT, len(whole), span.members), whole))
            return slices(ranges, opened)

        return await asyncio.to_thread(cut)

    async def _size(self, key: str, place: _Place) -> int:
        """Return the sealed size of an object, -1 where the store below cannot know it; what it says is remembered."""
        if (known := self._sizes.get(place.stored)) is not None:
            self._sizes.move_to_end(place.stored)
            return known
        info = await self._inner.head(place.stored)
        if info is None:
            raise _missing(key)
        return self._remember(place.stored, info.size)

    def _remember(self, stored: str, size: int) -> int:
        if size >= 0:
            self._sizes[stored] = size
            while len(self._sizes) > REMEMBERED_SIZES:
                self._sizes.popitem(last=False)
        return size

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, with the size of its plain bytes."""
        place = await self._find(key)
        info = await self._inner.head(key if place is None else place.stored)
        if place is None or info is None:
            return info
        self._remember(place.stored, info.size)
        return _plain(info, key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below a prefix by the keys that callers know.

        What is sealed is found where the prefix names its project. What lies among it and was not sealed with the
        project's key is left out, as is what lies in clear where only sealed objects belong.
        """
        project, slash, _ = prefix.partition("/")
        key = await self._ring.key_of(project) if slash and is_project(project) and self._names else None
        kinds = [kind for kind in LAKE_KINDS if key is not None and _meet(f"{project}/{kind}/", prefix)]
        if not any(prefix.startswith(f"{project}/{kind}/") for kind in kinds):
            async for info in self._inner.list(prefix):
                if not _reserved(info.key, sealed=key is not None):
                    yield info
        for kind in kinds:
            assert key is not None  # noqa: S101 - kinds is empty without one
            async for info in self._inner.list(sealed_prefix(project, kind)):
                found = _opened(key, kind, info)
                if found is not None and found.key.startswith(prefix):
                    yield found

    async def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        place = await self._find(key)
        await self._inner.delete(key if place is None else place.stored)
        if place is not None:
            self._sizes.pop(place.stored, None)

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> Presigned:
        """Return a request for what is stored: its holder reads, or has to send, sealed bytes."""
        place = await self._find(key)
        return await self._inner.presign(method, key if place is None else place.stored, expires=expires)

    async def _find(self, key: str) -> _Place | None:
        """Return where a sealed object lies, None for what is not sealed.

        Raises:
            Invalid: the key lies among an encrypted project's dataset objects, and names none.
        """
        check_key(key)
        project, _, rest = key.partition("/")
        folder = rest.partition("/")[0]
        if folder == SEALED:
            raise Invalid(f"{key[:120]!r} lies where only sealed objects do")
        if folder not in LAKE_KINDS or not is_project(project):
            return None
        if (own := await self._ring.key_of(project)) is None:
            return None
        if (found := find_lake_key(key)) is None:
            raise Invalid(f"{key[:120]!r} names no dataset's object, and the project is encrypted")
        _, kind, digest = found
        stored = sealed_key(project, kind, own.seal_name(kind, digest)) if self._names else key
        return _Place(kind, digest, stored, own.segments(key))


def _missing(key: str) -> NotFound:
    return NotFound(f"no such object: {key}", key=key)


def _inside(key: str, size: int, spans: Sequence[Span]) -> None:
    end = max(span.start + span.length for span in spans)
    if end > size:
        raise Invalid(f"object {key} ends before byte {end}")


def _plain(info: ObjectInfo, key: str) -> ObjectInfo:
    """Return what is said of a stored object as of the plain one; sizes that cannot be are shown as they are."""
    size = plain_size(info.size)
    return replace(info, key=key, size=info.size if size is None else size)


def _opened(key: ProjectKey, kind: LakeKind, info: ObjectInfo) -> ObjectInfo | None:
    name = info.key.rpartition("/")[2]
    digest = key.open_name(kind, name)
    if digest is None or sealed_key(key.project, kind, name) != info.key:
        return None
    return _plain(info, lake_key(key.project, kind, digest))


def _meet(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _reserved(key: str, *, sealed: bool) -> bool:
    """Return whether a key that the store below lists is none that callers may use."""
    folder = key.partition("/")[2].partition("/")[0]
    return folder == SEALED or (sealed and folder in LAKE_KINDS)
