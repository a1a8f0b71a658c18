"""What every lake does alike: threads, deadlines, ranges, listing, creating once, and errors in our taxonomy.

obstore is called synchronously in threads: measured at 13k small GETs a second against 5k for its own async calls.
It retries 5xx and connection errors itself, with exponential backoff and jitter.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import obstore

from millrace.errors import DeadlineExceeded, Invalid, Unavailable
from millrace.objects import wire
from millrace.objects.obstore_errors import translated
from millrace.objects.port import Capabilities, Method, ObjectInfo, Presigned, check_key
from millrace.objects.probe import probe
from millrace.objects.ranges import coalesce, slices

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

T = TypeVar("T")

THREADS = 16
PIECE = 1024 * 1024
"""Bytes of a body that are taken over at once: few enough to stay in a core's cache."""
CONNECT_SECONDS = 3.0
SIGNED_FOR_A_TRIAL = timedelta(minutes=5)
MULTIPART_CANDIDATES = (64 * 1024, 5 * 1024 * 1024)


@dataclass(frozen=True)
class Patience:
    """For how long a lake is waited for: `timeout` for one HTTP request, `deadline` for a call with its `retries`.

    Both in seconds.
    """

    timeout: float = 60.0
    deadline: float = 120.0
    retries: int = 5

    def client_options(self, endpoint: str) -> ClientConfig:
        """Return what obstore's HTTP client is told."""
        return {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=self.timeout),
        }

    def retry_config(self) -> RetryConfig:
        """Return when obstore tries again."""
        return {
            "max_retries": self.retries,
            "retry_timeout": timedelta(seconds=self.deadline),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
        }


class ObstoreLake(ABC):
    """`Lake` on one bucket that obstore speaks to. Needs `close()` at the end.

    Adapters add how to connect, how a request is signed, and how a bucket is made.
    """

    put_headers: ClassVar[Mapping[str, str]] = {"if-none-match": "*"}
    """What a presigned PUT is sent with, so that it only creates."""

    def __init__(
        self, store: S3Store | AzureStore | GCSStore, bucket: str, *, patience: Patience, threads: int = THREADS
    ) -> None:
        self.bucket = bucket
        self.capabilities: Capabilities | None = None
        self._store = store
        self._deadline = patience.deadline
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="objects")

    @abstractmethod
    def _sign(self, method: Method, key: str, expires: timedelta, *, inside: bool = False) -> str:
        """Return a signed URL, computed here; `inside` means for ourselves, not for clients elsewhere."""

    @abstractmethod
    def _make_bucket(self) -> None:
        """Create the bucket unless it exists. Blocking."""

    async def close(self) -> None:
        """Let go of the threads. Calls in flight end by their own timeouts."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ensure_bucket(self) -> None:
        """Create the bucket unless it exists."""
        await self._run(self.bucket, self._make_bucket)

    async def probe(self) -> Capabilities:
        """Find out what the endpoint can do, and adapt to it."""
        self.capabilities = await probe(self)
        return self.capabilities

    async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
        """Store an object whole; see the port."""
        check_key(key)
        if create_only and self.capabilities is not None and not self.capabilities.create_only:
            if await self.head(key) is not None:
                return False
            create_only = False
        return await self._run(key, lambda: self._put(key, data, create_only=create_only))

    def _put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool) -> bool:
        try:
            obstore.put(self._store, key, data, use_multipart=False, mode="create" if create_only else "overwrite")
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    async def get(self, key: str) -> bytes:
        """Return an object's bytes; see the port."""
        check_key(key)
        return await self._run(key, lambda: bytes(obstore.get(self._store, key).bytes()))

    async def get_into(self, key: str, buffer: memoryview) -> int:
        """Read an object into a buffer; see the port."""
        check_key(key)
        return await self._run(key, lambda: self._get_into(key, buffer))

    def _get_into(self, key: str, buffer: memoryview) -> int:
        found = obstore.get(self._store, key)
        size, done = int(found.meta["size"]), 0
        if size > len(buffer):
            return size
        for piece in found.stream(min_chunk_size=PIECE):
            end = done + len(piece)
            buffer[done:end] = memoryview(piece)
            done = end
        if done != size:
            raise Unavailable(f"the object store sent {done} bytes of {size} ({key})")
        return size

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly that range; see the port."""
        return (await self.get_ranges(key, [(start, length)]))[0]

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return all ranges, few requests; see the port."""
        check_key(key)
        spans = coalesce(ranges)
        fetched = await asyncio.gather(*(self._range(key, span.start, span.length) for span in spans))
        return slices(ranges, list(zip(spans, fetched, strict=True)))

    async def _range(self, key: str, start: int, length: int) -> bytes:
        if self.capabilities is not None and not self.capabilities.ranges:
            data = (await self.get(key))[start : start + length]
        else:
            data = await self._run(key, lambda: bytes(obstore.get_range(self._store, key, start=start, length=length)))
        if len(data) != length:
            raise Invalid(f"object {key} ends before byte {start + length}")
        return data

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object; see the port."""
        check_key(key)

        def head() -> ObjectInfo | None:
            try:
                return _info(obstore.head(self._store, key))
            except FileNotFoundError:
                return None

        return await self._run(key, head)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects below a prefix in the endpoint's order; see the port.

        obstore lists whole path segments only, so the last, partial segment is matched here.
        """
        folder = prefix.rpartition("/")[0]
        pages = await self._run(prefix, lambda: iter(obstore.list(self._store, folder or None, chunk_size=1_000)))
        while (page := await self._run(prefix, lambda: _page(pages))) is not None:
            for info in page:
                if info.key.startswith(prefix):
                    yield info

    async def folders(self, prefix: str) -> builtins.list[str]:
        """Return the names right below a prefix that others lie below; see the port."""
        found = await self._run(prefix, lambda: obstore.list_with_delimiter(self._store, prefix or None))
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    async def delete(self, key: str) -> None:
        """Remove an object; see the port."""
        check_key(key)
        await self._run(key, lambda: _gone(lambda: obstore.delete(self._store, key)))

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> Presigned:
        """Return a signed request; computed here, none is made."""
        check_key(key)
        return await self._run(key, lambda: self._presigned(method, key, expires))

    def _presigned(self, method: Method, key: str, expires: timedelta, *, inside: bool = False) -> Presigned:
        url = self._sign(method, key, expires, inside=inside)
        return Presigned(url, self.put_headers if method == "PUT" else {})

    async def put_if_absent(self, key: str, data: bytes) -> bool:
        """Send one create-only PUT as it is, for the probe."""
        return await self._run(key, lambda: self._put(key, data, create_only=True))

    async def presigned_create_only(self, key: str) -> bool:
        """Return whether a presigned PUT leaves an existing object alone, for the probe."""
        put = self._presigned("PUT", key, SIGNED_FOR_A_TRIAL, inside=True)
        return await self._run(key, lambda: wire.only_creates(put))

    async def refuses_bad_checksum(self, key: str) -> bool:
        """Return whether a wrong `Content-MD5` is refused, for the probe."""
        put = self._presigned("PUT", key, SIGNED_FOR_A_TRIAL, inside=True)
        return await self._run(key, lambda: wire.refuses_bad_md5(put))

    async def multipart_minimum(self, key: str) -> int:
        """Return the smallest part size of the candidates that the endpoint takes, for the probe."""
        for size in MULTIPART_CANDIDATES:
            with contextlib.suppress(Invalid):
                await self._run(key, partial(self._put_multipart, key, size))
                return size
        return 0

    def _put_multipart(self, key: str, part: int) -> None:
        obstore.put(self._store, key, bytes(part + 1), use_multipart=True, chunk_size=part)

    async def _run(self, key: str, call: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, translated, key, call)
        try:
            async with asyncio.timeout(self._deadline):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"the object store did not answer within {self._deadline:g} s ({key})") from None


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(key=meta["path"], size=meta["size"], etag=meta["e_tag"], modified=meta["last_modified"])


def _page(pages: Iterator[Any]) -> list[ObjectInfo] | None:
    try:
        return [_info(meta) for meta in next(pages)]
    except StopIteration:
        return None


def _gone(call: Callable[[], None]) -> None:
    with contextlib.suppress(FileNotFoundError):
        call()
