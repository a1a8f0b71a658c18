"""The port `ObjectStore`, and what one can learn about an endpoint."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from millrace.errors import Invalid

Method = Literal["GET", "PUT"]

MAX_KEY_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing or a HEAD says about one object; `size` in bytes, -1 where the adapter cannot know it."""

    key: str
    size: int
    etag: str | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the start-up probe found out about an endpoint. None: it could not be tried through this adapter."""

    ranges: bool
    create_only: bool
    list_sorted: bool
    presigned_create_only: bool | None = None
    checksums: bool | None = None
    multipart_minimum: int | None = None
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Presigned:
    """A request that needs no key: a URL, and the headers that must go with it, which are nobody's secret.

    `headers` say what the protocol of a lake wants beyond a bare request, and that a PUT only creates.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


class ObjectStore(Protocol):
    """One bucket of an object store. Keys are text without a leading slash.

    Every call ends within the adapter's deadline. Errors: `NotFound`, `Forbidden`, `Unavailable`,
    `DeadlineExceeded` (the outcome is unknown), `Invalid` (a key or a range that cannot be).
    """

    async def put(self, key: str, data: bytes | bytearray | memoryview, *, create_only: bool = False) -> bool:
        """Store an object whole. Return False if `create_only` and the key exists already (it is then untouched)."""

    async def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            NotFound: no such key.
        """

    async def get_into(self, key: str, buffer: memoryview) -> int:
        """Read an object into the front of `buffer`, and return its size; a larger one than fits is not read.

        After an error or a cancellation a thread may go on to write to the buffer: never use it again.

        Raises:
            NotFound: no such key.
        """

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from offset `start`.

        Raises:
            Invalid: the object ends before that.
        """

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return the bytes of every (start, length), in the order asked; near ranges share one request."""

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None where there is none."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix` (any text, not only whole folders).

        The order is the endpoint's: SeaweedFS puts what lies below `a/` before `a-b`. Sort where order matters.
        """

    async def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""

    async def presign(self, method: Method, key: str, *, expires: timedelta) -> Presigned:
        """Return a request that lets its holder do `method` on `key` until it expires; a PUT only creates."""


class Lake(ObjectStore, Protocol):
    """An object store as a service opens it: made where it is missing, tried, and let go of at the end."""

    @property
    def capabilities(self) -> Capabilities | None:
        """Return what `probe` found, or None before."""

    async def folders(self, prefix: str) -> builtins.list[str]:
        """Return the names right below `prefix` (empty, or a folder with its slash) that others lie below, sorted."""

    async def ensure_bucket(self) -> None:
        """Create the bucket (container) unless it exists; several processes may do so at once."""

    async def probe(self) -> Capabilities:
        """Find out what the endpoint can do, and adapt to it."""

    async def close(self) -> None:
        """Let go of threads and connections."""


def check_key(key: str) -> str:
    """Return `key` if every S3 server and client library would take it for the same object.

    Raises:
        Invalid: empty, too long, absolute, empty or dotted segments, control characters, or not UTF-8.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Invalid("an object key must be valid Unicode") from None
    if not 1 <= size <= MAX_KEY_BYTES or any(ord(char) < 32 or ord(char) == 127 for char in key):
        raise Invalid(f"bad object key {key[:80]!r}: 1 to {MAX_KEY_BYTES} bytes, no control characters")
    if any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise Invalid(f"bad object key {key[:80]!r}: empty or dotted segment")
    return key
