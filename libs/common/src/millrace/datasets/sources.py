"""Where files come from: anything that knows path and size and can be read by range."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from blake3 import blake3

from millrace.datasets.paths import printable
from millrace.datasets.walk import Found
from millrace.errors import Invalid, MillraceError

Read = Callable[[int, int], Awaitable[bytes]]


class Changed(MillraceError):
    """A file changed while it was read; pushing again takes the new state."""

    code = "file-changed"
    title = "A file changed meanwhile"
    status = 409
    transient = True


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to push. `read(offset, length)` returns exactly that many bytes; size in bytes."""

    path: str
    size: int
    read: Read
    mode: int = 0o440
    mtime_ns: int = 0

    @classmethod
    def of_bytes(cls, path: str, data: bytes, *, mode: int = 0o440, mtime_ns: int = 0) -> SourceFile:
        """Return a file whose bytes are at hand."""

        async def read(offset: int, length: int) -> bytes:
            return data[offset : offset + length]

        return cls(path, len(data), read, mode, mtime_ns)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file on its way into the lake. Without `data`, its digest is known and `source` is read only if needed."""

    source: SourceFile
    digest: bytes | None = None
    data: bytes | None = None
    hashed: Callable[[bytes], None] | None = None


def local_file(path: str, found: Found) -> SourceFile:
    """Return a file of the file system; reading it fails with `Changed` if it is not what the scan saw."""

    async def read(offset: int, length: int) -> bytes:
        return await asyncio.to_thread(read_local, found, offset, length)

    return SourceFile(path, found.stat.st_size, read, stat.S_IMODE(found.stat.st_mode) & 0o777, found.stat.st_mtime_ns)


def read_local(found: Found, offset: int, length: int) -> bytes:
    """Return bytes of a scanned file, following no link and trusting no length.

    Raises:
        Changed: it is no longer the file that was scanned.
        Invalid: it cannot be read.
    """
    try:
        handle = os.open(found.full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Changed(f"{printable(found.path)} vanished while it was pushed", hint="run it again") from None
    except OSError as error:
        raise Invalid(f"{printable(found.path)} cannot be read: {error.strerror}") from None
    try:
        data = os.pread(handle, length, offset)
        while len(data) < length and (more := os.pread(handle, length - len(data), offset + len(data))):
            data += more
        same = _identity(os.fstat(handle)) == _identity(found.stat) and len(data) == length
    finally:
        os.close(handle)
    if not same:
        raise Changed(f"{printable(found.path)} changed while it was pushed", hint="run it again")
    return data


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return (info.st_dev, info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


async def load(source: SourceFile, digest: bytes | None) -> tuple[bytes, bytes]:
    """Return a small file's bytes and digest; a known digest must come out again.

    Raises:
        Changed: the bytes are others, or fewer.
    """
    data = await source.read(0, source.size) if source.size else b""
    actual = blake3(data).digest()
    if len(data) != source.size or (digest is not None and actual != digest):
        raise Changed(f"{printable(source.path)} changed while it was pushed", hint="run it again")
    return data, actual
