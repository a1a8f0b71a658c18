"""Finding what a folder holds, and refusing what no version may hold, with every offender named.

600,000 files are columns of numbers and one buffer of paths here, not objects.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.datasets.path_columns import clashes, suspects
from millrace.datasets.paths import RESERVED, normalise, printable, problem, refuse
from millrace.errors import Invalid

Skip = Callable[[str, bool], bool]
"""Whether a path (and is it a folder?) below the root is left out."""


@dataclass(slots=True)
class Listing:
    """The files below a folder, in the order of a walk with sorted names. Sizes in bytes, times in nanoseconds."""

    root: str
    text: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q", [0]))
    folders: list[str] = field(default_factory=list)
    folder: array[int] = field(default_factory=lambda: array("i"))
    named: dict[int, str] = field(default_factory=dict)
    devices: array[int] = field(default_factory=lambda: array("Q"))
    inodes: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    modes: array[int] = field(default_factory=lambda: array("i"))
    mtimes: array[int] = field(default_factory=lambda: array("q"))
    ctimes: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def path(self, index: int) -> str:
        """Return the path of a file in the version."""
        return self.text[self.ends[index] : self.ends[index + 1]].decode()

    @property
    def paths(self) -> Any:
        """Return all paths as an Arrow array that shares their memory."""
        buffers = [None, pa.py_buffer(self.ends), pa.py_buffer(self.text)]
        return pa.Array.from_buffers(pa.large_string(), len(self), buffers)

    @property
    def bytes(self) -> int:
        """Return the sum of the sizes."""
        return int(self.column("sizes").sum()) if len(self) else 0

    def column(self, name: str) -> Any:
        """Return one of the numeric columns as a numpy array that shares its memory."""
        numbers: array[int] = getattr(self, name)
        return np.frombuffer(numbers, dtype=numbers.typecode) if len(numbers) else np.empty(0, numbers.typecode)

    def full(self, index: int) -> str:
        """Return where a file is opened, by the name that it has on disk."""
        name = self.named.get(index) or self.path(index).rpartition("/")[2]
        return f"{self.folders[self.folder[index]]}/{name}"

    def identity(self, index: int) -> tuple[int, ...]:
        """Return what tells that the file is still the one that was scanned."""
        return (
            self.devices[index],
            self.inodes[index],
            self.modes[index],
            self.sizes[index],
            self.mtimes[index],
            self.ctimes[index],
        )


def identity(info: os.stat_result) -> tuple[int, ...]:
    """Return the identity of an open file, to compare with `Listing.identity`."""
    return (info.st_dev, info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def scan(root: Path, *, skip: Skip | None = None) -> Listing:
    """Return the files below `root` that `skip` does not leave out. Empty folders are not part of a version.

    Raises:
        Refused: links, devices, pipes, sockets, bad or clashing names; the message names them.
        Invalid: the folder cannot be read.
    """
    found = Listing(os.fspath(root))
    problems: list[str] = []
    try:
        for folder, prefix, entries in _folders(found.root, skip):
            _add_folder(found, folder, prefix, entries, problems)
    except OSError as error:
        raise Invalid(f"cannot read {printable(str(error.filename or root))}: {error.strerror}") from None
    for index in suspects(found.paths):
        why = problem(found.path(index))
        if why is not None:
            problems.append(f"{printable(found.path(index))}: {why}")
    refuse(problems)
    refuse(clashes(found.paths))
    return found


def _folders(root: str, skip: Skip | None) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    """Yield every folder with what it holds besides folders, depth first, names sorted. Links are never followed."""
    todo = [(root, "")]
    while todo:
        folder, prefix = todo.pop()
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        files, inner = [], []
        for entry in entries:
            if not prefix and entry.name in RESERVED:
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if skip is not None and skip(prefix + entry.name, is_folder):
                continue
            if is_folder:
                inner.append((entry.path, f"{prefix}{entry.name}/"))
            else:
                files.append(entry)
        if files:
            yield folder, prefix, files
        todo.extend(reversed(inner))


def _add_folder(found: Listing, folder: str, prefix: str, entries: list[os.DirEntry[str]], problems: list[str]) -> None:
    number = len(found.folders)
    found.folders.append(folder)
    for entry in entries:
        info = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(info.st_mode):
            problems.append(f"{printable(prefix + entry.name)}: it is {_kind(info)}")
            continue
        path = _composed(prefix + entry.name)
        if path is None:
            problems.append(f"{printable(prefix + entry.name)}: {problem(prefix + entry.name)}")
            continue
        if not path.endswith(entry.name):
            found.named[len(found)] = entry.name
        found.text += path.encode()
        found.ends.append(len(found.text))
        found.folder.append(number)
        found.devices.append(info.st_dev)
        found.inodes.append(info.st_ino)
        found.sizes.append(info.st_size)
        found.modes.append(info.st_mode)
        found.mtimes.append(info.st_mtime_ns)
        found.ctimes.append(info.st_ctime_ns)


def _kind(info: os.stat_result) -> str:
    return "a symbolic link" if stat.S_ISLNK(info.st_mode) else "a device, pipe or socket"


def _composed(path: str) -> str | None:
    """Return a path as versions store it; None if it is not valid UTF-8."""
    if path.isascii():
        return path
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    return normalise(path)
