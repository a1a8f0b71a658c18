"""The lake through the gateway's presigned URLs: an object store for those who hold an API token and no key.

Only what a dataset's push and pull need: packs, chunks and manifests of one dataset. Writes are always create-only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import httpx

from millrace.datasets.keys import parse_object_key
from millrace.errors import DeadlineExceeded, Forbidden, Invalid, NotFound, Unavailable
from millrace.objects.port import Method, ObjectInfo
from millrace.objects.ranges import coalesce, slices
from millrace_sdk.client import AsyncCatalog

ATTEMPTS = 5
KINDS = frozenset({"packs", "chunks", "manifests"})
_MISSING = frozenset({404})
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_EXISTS = frozenset({409, 412})


class PresignedObjectStore:
    """`ObjectStore` over presigned URLs. `ref` is the version that reads come from; without one it only writes."""

    def __init__(
        self, catalog: AsyncCatalog, dataset: str, *, ref: str | int | None = None, timeout: float = 60.0
    ) -> None:
        self._catalog = catalog
        self._dataset = dataset
        self._ref = ref
        self._http = httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False)

    async def aclose(self) -> None:
        """Close the connections to the lake."""
        await self._http.aclose()

    async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
        """Store an object that is not there yet. False: it is there already.

        Raises:
            Invalid: `create_only` is not asked for, or the key is no part of a dataset.
        """
        if not create_only:
            raise Invalid("objects of a dataset are only ever created")
        kind, name = _parts(key)
        answer = await self._catalog.uploads(self._dataset, [{"kind": kind, "id": name, "size": len(data)}])
        item = answer["items"][0]
        if item["url"] is None:
            return False
        headers = {"if-none-match": "*", "content-type": "application/octet-stream"}
        response = await self._send("PUT", item["url"], content=bytes(data), headers=headers)
        if response.status_code in _EXISTS:
            return False
        _check(response, key)
        return True

    async def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        response = await self._send("GET", await self._address(key))
        _check(response, key)
        return response.content

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`."""
        return (await self.get_ranges(key, [(start, length)]))[0]

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return the bytes of every (start, length), in the order asked."""
        address, spans = await self._address(key), coalesce(ranges)
        found = await asyncio.gather(*(self._range(address, key, span.start, span.length) for span in spans))
        return slices(ranges, list(zip(spans, found, strict=True)))

    async def head(self, key: str) -> ObjectInfo | None:
        """Return whether the lake has an object; its size is known only where it belongs to the version `ref`."""
        if self._ref is not None:
            with contextlib.suppress(NotFound):
                return await self._sized(key)
        kind, name = _parts(key)
        answer = await self._catalog.uploads(self._dataset, [{"kind": kind, "id": name}])
        return ObjectInfo(key, -1) if answer["items"][0]["url"] is None else None

    async def _sized(self, key: str) -> ObjectInfo | None:
        response = await self._send("GET", await self._address(key), headers={"range": "bytes=0-0"})
        if response.status_code in _MISSING:
            return None
        total = response.headers.get("content-range", "").rpartition("/")[2]
        if response.status_code == httpx.codes.PARTIAL_CONTENT and total.isdigit():
            return ObjectInfo(key, int(total))
        _check(response, key)
        return ObjectInfo(key, len(response.content))

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Refuse: a token gives no right to list the lake."""
        raise Forbidden(f"the lake is not listed through presigned URLs: {prefix}")

    async def delete(self, key: str) -> None:
        """Refuse: a token gives no right to delete from the lake."""
        raise Forbidden(f"nothing is deleted through presigned URLs: {key}")

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> str:
        """Return the gateway's own presigned GET; its expiry is the gateway's."""
        if method != "GET":
            raise Forbidden(f"only reads are handed on ({key}, {expires})")
        return await self._address(key)

    async def _range(self, address: str, key: str, start: int, length: int) -> bytes:
        headers = {"range": f"bytes={start}-{start + length - 1}"}
        response = await self._send("GET", address, headers=headers)
        _check(response, key)
        body = response.content
        if response.status_code != httpx.codes.PARTIAL_CONTENT:  # an endpoint without ranges sends everything
            body = body[start : start + length]
        if len(body) != length:
            raise Invalid(f"{key} ends before byte {start + length}")
        return body

    async def _address(self, key: str) -> str:
        kind, name = _parts(key)
        if self._ref is None:
            raise Invalid("this store was opened for writing only")
        answer = await self._catalog.downloads(self._dataset, self._ref, [{"kind": kind, "id": name}])
        return str(answer["items"][0]["url"])

    async def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        delay = 0.2
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await self._http.request(method, url, **options)
            except httpx.TimeoutException:
                if attempt == ATTEMPTS:
                    raise DeadlineExceeded("the lake did not answer in time") from None
            except httpx.HTTPError as error:
                if attempt == ATTEMPTS:
                    raise Unavailable(f"the lake cannot be reached: {error}") from None
            else:
                if response.status_code not in _PASSING or attempt == ATTEMPTS:
                    return response
            await asyncio.sleep(delay)
            delay *= 2
        raise AssertionError("unreachable")


def _parts(key: str) -> tuple[str, str]:
    _, kind, name = parse_object_key(key)
    if kind not in KINDS:
        raise Invalid(f"{key} is no pack, chunk or manifest")
    return kind, name


def _check(response: httpx.Response, key: str) -> None:
    if response.is_success:
        return
    if response.status_code in _MISSING:
        raise NotFound(f"the lake has no {key}")
    if response.status_code == httpx.codes.FORBIDDEN:
        raise Forbidden("the lake refused a presigned URL", hint="is this machine's clock right?")
    if response.status_code in _PASSING:
        raise Unavailable(f"the lake answered {response.status_code}")
    raise Invalid(f"the lake answered {response.status_code} for {key}")
