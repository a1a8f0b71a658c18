"""Writing large files past the page cache.

A fill writes what nobody on this machine may ever read, hundreds of GB of it. Through the page cache it costs a page
for every 4 KiB, pushes out what running trainings read, and comes to the disk only by `syncfs`. See ADR 0020.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading

import numpy as np

from millrace.datasets import libc
from millrace.datasets.buffers import anonymous

BLOCK = 4096
"""Memory, place in the file and length are multiples of this, more than any disk asks for."""

WORTH = 128 * 1024
"""Smaller writes are cheaper through the page cache."""

_SCRATCH = 2 * 1024 * 1024
_LOCAL = frozenset({0xEF53, 0x58465342, 0x794C7630})
"""ext2 to ext4, XFS, overlayfs. On a network's file system each direct write would wait for the server's disk."""

_FSTATFS = libc.find("fstatfs", ctypes.c_int, ctypes.c_void_p)
_own = threading.local()


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write all of `data` where the file stands; a large part of it past the page cache where the file system can.

    Raises:
        OSError: as for `os.write`; how much was written is then unknown.
    """
    view = memoryview(data)
    if len(view) >= WORTH and _begin(handle):
        view = _direct(handle, view)
    while view:
        view = view[os.write(handle, view) :]


def _begin(handle: int) -> bool:
    """Switch to direct writes; False where they are not to be had, or not worth it."""
    if not hasattr(os, "O_DIRECT") or _file_system(handle) not in _LOCAL or os.lseek(handle, 0, os.SEEK_CUR) % BLOCK:
        return False
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError:
        return False
    return True


def _direct(handle: int, view: memoryview) -> memoryview:
    """Write whole blocks, and return what remains for the page cache, to which the file is given back."""
    try:
        while len(view) >= BLOCK:
            piece = _aligned(view)
            try:
                written = os.write(handle, piece)
            except OSError as error:
                if error.errno == errno.EINVAL:  # a disk of larger blocks
                    break
                raise
            view = view[written:]
            if written % BLOCK:
                break
    finally:
        fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~os.O_DIRECT)
    return view


def _aligned(view: memoryview) -> memoryview:
    """Return whole blocks of the beginning of `view`, copied if its memory is not aligned."""
    whole = len(view) // BLOCK * BLOCK
    if np.frombuffer(view, np.uint8).ctypes.data % BLOCK == 0:
        return view[:whole]
    scratch = getattr(_own, "scratch", None)
    if scratch is None:
        scratch = _own.scratch = memoryview(anonymous(_SCRATCH))
    length = min(whole, _SCRATCH)
    scratch[:length] = view[:length]
    return scratch[:length]


def _file_system(handle: int) -> int | None:
    """Return the magic number of the file system (statfs(2)); None if it cannot be told."""
    if _FSTATFS is None:
        return None
    answer = (ctypes.c_long * 64)()
    return answer[0] if _FSTATFS(handle, answer) == 0 else None
