"""The lake through the gateway's presigned URLs: an object store for those who hold an API token and no key.

Only what a dataset's push and pull need: packs, chunks and manifests of one dataset. Writes are always create-only.
URLs for reading are asked for in batches and kept for a while, so that a version of thousands of packs costs the
gateway a few calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from millrace.clock import SystemClock
from millrace.datasets.keys import parse_object_key
from millrace.errors import Forbidden, Invalid, NotFound, Unavailable
from millrace.objects.port import Method, ObjectInfo, Presigned
from millrace.objects.ranges import coalesce, slices
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.transport import PASSING, Answer, Transport

KINDS = frozenset({"packs", "chunks", "manifests"})
BATCH = 256
"""URLs that are asked for at once."""

FRESH_SECONDS = 600.0
"""A URL is used for so long; the gateway signs it for 15 minutes."""

CREATE_ON_S3 = {"if-none-match": "*"}

_PARTIAL, _FORBIDDEN, _MISSING = 206, 403, 404
_EXISTS = frozenset({409, 412})


class PresignedObjectStore:
    """`ObjectStore` over presigned URLs. `ref` is the version that reads come from; without one it only writes.

    `sealed` says with which key what is put is sealed, by its id; see `GatewayStore`.
    """

    def __init__(
        self,
        catalog: AsyncCatalog,
        dataset: str,
        *,
        ref: str | int | None = None,
        timeout: float = 60.0,
        sealed: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._catalog = catalog
        self._sealed = sealed
        self._dataset = dataset
        self._ref = ref
        self._transport = Transport(timeout=timeout)
        self._clock = SystemClock()
        self._wanted: dict[str, None] = {}
        self._known: dict[str, tuple[Presigned, float]] = {}
        self._asking = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the connections to the lake."""
        self._transport.close()

    def expect(self, keys: Iterable[str]) -> None:
        """Say which objects will be read, in which order; their URLs are then asked for in batches."""
        self._wanted.update(dict.fromkeys(keys))

    async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
        """Store an object that is not there yet. False: it is there already.

        Raises:
            Invalid: `create_only` is not asked for, or the key is no part of a dataset.
        """
        if not create_only:
            raise Invalid("objects of a dataset are only ever created")
        kind, name = _parts(key)
        item = await self._upload({"kind": kind, "id": name, "size": len(data)})
        if item["url"] is None:
            return False
        headers = {"content-type": "application/octet-stream", **_headers(item, CREATE_ON_S3)}
        body = data if isinstance(data, bytes) else memoryview(data)
        response = await self._transport.send("PUT", item["url"], body=body, headers=headers)
        if response.status in _EXISTS or (response.status == _FORBIDDEN and await self._there(kind, name)):
            return False
        _check(response, key)
        return True

    async def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        request = await self._request(key)
        response = await self._transport.send("GET", request.url, headers=request.headers)
        _check(response, key)
        return response.body

    async def get_into(self, key: str, buffer: memoryview) -> int:
        """Read an object into the front of a buffer, and return its size; a larger one than fits is not read."""
        request = await self._request(key)
        response = await self._transport.send("GET", request.url, headers=request.headers, into=buffer)
        _check(response, key)
        return response.size

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`."""
        return (await self.get_ranges(key, [(start, length)]))[0]

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return the bytes of every (start, length), in the order asked."""
        request, spans = await self._request(key), coalesce(ranges)
        found = await asyncio.gather(*(self._range(request, key, span.start, span.length) for span in spans))
        return slices(ranges, list(zip(spans, found, strict=True)))

    async def head(self, key: str) -> ObjectInfo | None:
        """Return whether the lake has an object; its size is known only where it belongs to the version `ref`."""
        if self._ref is not None:
            with contextlib.suppress(NotFound):
                return await self._sized(key)
        return ObjectInfo(key, -1) if await self._there(*_parts(key)) else None

    async def _there(self, kind: str, name: str) -> bool:
        """Return whether the lake has an object, by the gateway's word.

        A URL that only allows to create is refused as forbidden where the object exists, by Azure for one.
        """
        return (await self._upload({"kind": kind, "id": name}))["url"] is None

    async def _upload(self, item: dict[str, Any]) -> dict[str, Any]:
        sealed = None if self._sealed is None else await self._sealed()
        answer = await self._catalog.uploads(self._dataset, [item], sealed=sealed)
        found: dict[str, Any] = answer["items"][0]
        return found

    async def _sized(self, key: str) -> ObjectInfo | None:
        request = await self._request(key)
        response = await self._transport.send("GET", request.url, headers={**request.headers, "range": "bytes=0-0"})
        if response.status == _MISSING:
            return None
        total = response.headers.get("content-range", "").rpartition("/")[2]
        if response.status == _PARTIAL and total.isdigit():
            return ObjectInfo(key, int(total))
        _check(response, key)
        return ObjectInfo(key, len(response.body))

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Refuse: a token gives no right to list the lake."""
        raise Forbidden(f"the lake is not listed through presigned URLs: {prefix}")

    async def delete(self, key: str) -> None:
        """Refuse: a token gives no right to delete from the lake."""
        raise Forbidden(f"nothing is deleted through presigned URLs: {key}")

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> Presigned:
        """Return the gateway's own presigned GET; its expiry is the gateway's."""
        if method != "GET":
            raise Forbidden(f"only reads are handed on ({key}, {expires})")
        return await self._request(key)

    async def _range(self, request: Presigned, key: str, start: int, length: int) -> bytes:
        headers = {**request.headers, "range": f"bytes={start}-{start + length - 1}"}
        response = await self._transport.send("GET", request.url, headers=headers)
        _check(response, key)
        body = response.body
        if response.status != _PARTIAL:  # an endpoint without ranges sends everything
            body = body[start : start + length]
        if len(body) != length:
            raise Invalid(f"{key} ends before byte {start + length}")
        return body

    async def _request(self, key: str) -> Presigned:
        if self._ref is None:
            raise Invalid("this store was opened for writing only")
        async with self._asking:
            if key not in self._known or self._clock.monotonic() >= self._known[key][1]:
                await self._ask_for(key, self._ref)
            return self._known[key][0]

    async def _ask_for(self, key: str, ref: str | int) -> None:
        """Ask for the URL of `key` and of what is expected next."""
        self._wanted.pop(key, None)
        ahead = [wanted for wanted, _ in zip(self._wanted, range(BATCH - 1), strict=False)]
        keys = [key, *ahead]
        objects = [{"kind": kind, "id": name} for kind, name in map(_parts, keys)]
        answer = await self._catalog.downloads(self._dataset, ref, objects)
        until = self._clock.monotonic() + FRESH_SECONDS
        for wanted, item in zip(keys, answer["items"], strict=True):
            self._wanted.pop(wanted, None)
            self._known[wanted] = (Presigned(str(item["url"]), _headers(item, {})), until)


def _headers(item: Mapping[str, Any], otherwise: Mapping[str, str]) -> dict[str, str]:
    """Return what must be sent beside a URL; a gateway that says nothing of it has a lake on S3.

    Raises:
        Unavailable: no headers that HTTP could carry.
    """
    found = item.get("headers")
    if found is None:
        return dict(otherwise)
    if not isinstance(found, dict) or not all(_plain(name) and _plain(value) for name, value in found.items()):
        raise Unavailable("the gateway's answer names headers that cannot be", hint="is this a Millrace gateway?")
    return found


def _plain(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable()


def _parts(key: str) -> tuple[str, str]:
    _, kind, name = parse_object_key(key)
    if kind not in KINDS:
        raise Invalid(f"{key} is no pack, chunk or manifest")
    return kind, name


def _check(response: Answer, key: str) -> None:
    if response.status < 300:
        return
    if response.status == _MISSING:
        raise NotFound(f"the lake has no {key}")
    if response.status == _FORBIDDEN:
        raise Forbidden("the lake refused a presigned URL", hint="is this machine's clock right?")
    if response.status in PASSING:
        raise Unavailable(f"the lake answered {response.status}")
    raise Invalid(f"the lake answered {response.status} for {key}")
