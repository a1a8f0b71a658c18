"""An object store in memory, for tests of pure logic. It passes the same contract suite as real lakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from millrace.clock import SystemClock
from millrace.errors import Invalid, NotFound
from millrace.objects.port import Method, ObjectInfo, Presigned, check_key
from millrace.objects.ranges import coalesce, slices


class InMemoryObjectStore:
    """`ObjectStore` on a dictionary. `requests` counts calls per method, for tests that prove what was not fetched.

    `modified` says when an object was written; tests may set it.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.requests: dict[str, int] = {"put": 0, "get": 0, "range": 0, "head": 0, "list": 0, "delete": 0}

    async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
        """Store an object; see the port."""
        check_key(key)
        self.requests["put"] += 1
        if create_only and key in self.objects:
            return False
        self.objects[key] = bytes(data)
        self.modified[key] = SystemClock().now()
        return True

    async def get(self, key: str) -> bytes:
        """Return an object's bytes; see the port."""
        self.requests["get"] += 1
        return self._read(key)

    async def get_into(self, key: str, buffer: memoryview) -> int:
        """Read an object into a buffer; see the port."""
        data = await self.get(key)
        if len(data) <= len(buffer):
            buffer[: len(data)] = data
        return len(data)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly that range; see the port."""
        return (await self.get_ranges(key, [(start, length)]))[0]

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return all ranges; see the port."""
        spans = coalesce(ranges)
        self.requests["range"] += len(spans)
        data = self._read(key)
        for span in spans:
            if span.start + span.length > len(data):
                raise Invalid(f"object {key} ends before byte {span.start + span.length}")
        return slices(ranges, [(span, data[span.start : span.start + span.length]) for span in spans])

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object; see the port."""
        check_key(key)
        self.requests["head"] += 1
        data = self.objects.get(key)
        return None if data is None else ObjectInfo(key=key, size=len(data), modified=self.modified.get(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below a prefix in key order; see the port."""
        self.requests["list"] += 1
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix):
                yield ObjectInfo(key=key, size=len(self.objects[key]), modified=self.modified.get(key))

    async def delete(self, key: str) -> None:
        """Remove an object; see the port."""
        check_key(key)
        self.requests["delete"] += 1
        self.objects.pop(key, None)

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> Presigned:
        """Return a text that names the operation; nothing answers it."""
        check_key(key)
        return Presigned(f"memory://{method}/{key}?expires={int(expires.total_seconds())}")

    def _read(self, key: str) -> bytes:
        check_key(key)
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound(f"no such object: {key}", key=key) from None
