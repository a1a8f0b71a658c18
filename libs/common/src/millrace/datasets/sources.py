"""Where files come from: anything that knows path and size and can be read by range."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from millrace.datasets.paths import printable
from millrace.datasets.scan import Listing, identity
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
    """A file on its way into the lake: a small one with its bytes and their digest, a large one to be read."""

    source: SourceFile
    digest: bytes | None = None
    data: bytes | None = None


def local_file(files: Listing, index: int) -> SourceFile:
    """Return a scanned file of the file system; reading it fails with `Changed` if it is not what the scan saw."""
    mode = stat.S_IMODE(files.modes[index]) & 0o777
    path = files.path(index)
    read = _reader(files.full(index), files.identity(index), path)
    return SourceFile(path, files.sizes[index], read, mode, files.mtimes[index])


def found_file(path: str, found: Found) -> SourceFile:
    """Return a file that a walk found; see `local_file`."""
    mode = stat.S_IMODE(found.stat.st_mode) & 0o777
    read = _reader(found.full, identity(found.stat), path)
    return SourceFile(path, found.stat.st_size, read, mode, found.stat.st_mtime_ns)


def _reader(full: str, expected: tuple[int, ...], path: str) -> Read:
    def read_now(offset: int, length: int) -> bytes:
        data = bytearray(length)
        with opened(full, expected, path) as handle:
            read_into(handle, memoryview(data), offset)
        return bytes(data)

    async def read(offset: int, length: int) -> bytes:
        return await asyncio.to_thread(read_now, offset, length)

    return read


@contextlib.contextmanager
def opened(full: str, expected: tuple[int, ...], path: str) -> Iterator[int]:
    """Open the file at `full` for the time of the block, following no link; `path` names it in messages.

    Raises:
        Changed: it is gone, or has not the identity that was expected when the block ends.
        Invalid: it cannot be read.
    """
    try:
        handle = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield handle
            same = identity(os.fstat(handle)) == expected
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise Changed(f"{printable(path)} vanished while it was pushed", hint="run it again") from None
    except EOFError:
        same = False
    except OSError as error:
        raise Invalid(f"{printable(path)} cannot be read: {error.strerror}") from None
    if not same:
        raise Changed(f"{printable(path)} changed while it was pushed", hint="run it again")


def read_into(handle: int, place: memoryview, offset: int) -> None:
    """Fill `place` from an open file.

    Raises:
        EOFError: the file ends before.
    """
    read = os.preadv(handle, [place], offset)
    while read < len(place):
        more = os.preadv(handle, [place[read:]], offset + read)
        if not more:
            raise EOFError
        read += more


async def load(source: SourceFile) -> tuple[bytes, bytes]:
    """Return a small file's bytes and their digest.

    Raises:
        Changed: there are fewer, or more, than the source promised.
    """
    data = await source.read(0, source.size) if source.size else b""
    if len(data) != source.size:
        raise Changed(f"{printable(source.path)} changed while it was pushed", hint="run it again")
    return data, blake3(data).digest()
