"""Writing below a folder without ever following a link, and making it durable."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from millrace.datasets import libc
from millrace.datasets.direct import write_all
from millrace.errors import Conflict, Exhausted, MillraceError, Unavailable

FILE_MODE = 0o440
FOLDER_MODE = 0o750

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SYNCFS = libc.find("syncfs", ctypes.c_int)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NoSpace(Exhausted):
    """The file system is full, or a quota is reached; room must be made first."""

    code = "no-space"


@contextlib.contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn the operating system's errors below `root` into ours."""
    try:
        yield
    except OSError as error:
        raise explain(error, root) from error


def explain(error: OSError, root: Path) -> MillraceError:
    """Return our error for one of the operating system's."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(f"no space left below {root}: {error.strerror}")
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EEXIST}:
        return Conflict(f"something that is not ours lies below {root}: {error.strerror} ({error.filename})")
    return Unavailable(f"cannot write below {root}: {error.strerror}")


@contextlib.contextmanager
def folder(root: int, relative: str) -> Iterator[int]:
    """Open a folder below the open folder `root`, making what is missing; a link in its place is an error."""
    current = os.dup(root)
    try:
        for name in filter(None, relative.split("/")):
            try:
                os.mkdir(name, FOLDER_MODE, dir_fd=current)
                made = True
            except FileExistsError:
                made = False
            inner = os.open(name, _FOLDER, dir_fd=current)
            os.close(current)
            current = inner
            if made:
                os.fchmod(current, FOLDER_MODE)
        yield current
    finally:
        os.close(current)


def open_root(path: Path) -> int:
    """Make the folder `path` unless it exists (its parent must), and return it opened; it may not be a link."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE)
    return os.open(path, _FOLDER)


def write_file(parent: int, name: str, data: bytes | memoryview) -> None:
    """Write a new file into an open folder; an existing one is an error."""
    handle = os.open(name, _NEW_FILE, FILE_MODE, dir_fd=parent)
    try:
        os.fchmod(handle, FILE_MODE)
        write_all(handle, data)
    finally:
        os.close(handle)


class Part:
    """A large file that grows under a hidden name and appears under its own when it is whole and verified."""

    def __init__(self, parent: int, name: str) -> None:
        self._parent, self._name = os.dup(parent), name
        self._hidden = f".{secrets.token_hex(8)}.part"
        self._handle = os.open(self._hidden, _NEW_FILE, FILE_MODE, dir_fd=self._parent)

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        write_all(self._handle, data)

    def publish(self) -> None:
        """Give it its name."""
        os.fchmod(self._handle, FILE_MODE)
        os.rename(self._hidden, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)

    def close(self) -> None:
        """Let go of it; unless it was published nothing stays."""
        with contextlib.suppress(OSError):
            os.unlink(self._hidden, dir_fd=self._parent)
        os.close(self._handle)
        os.close(self._parent)


def sync_files(root: int) -> None:
    """Make everything written to the root's file system durable, by one call for all files.

    Raises:
        OSError: the disk lost something (reported since Linux 5.8).
    """
    if _SYNCFS is None:
        os.sync()
    elif _SYNCFS(root) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def sync_folders(path: Path) -> None:
    """Make the names below `path`, and its own in its parent, durable."""
    for current, _folders, _files in os.walk(path, followlinks=False):
        _sync_folder(current)
    _sync_folder(os.fspath(path.parent))


def _sync_folder(path: str) -> None:
    handle = os.open(path, _FOLDER)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
