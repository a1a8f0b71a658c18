"""Mounted folders: read below the roots that the settings allow, never through a link."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ingest.adapters.landing_store import MARKS, check_names
from ingest.application.ports import Bounds, Landed, Landing, Read
from ingest.domain.places import LocalPlace, Root
from ingest.errors import LandingChanged, LandingTooLarge, NothingLanded, PlaceRefused
from millrace.datasets.sources import Changed, found_file
from millrace.datasets.walk import Found, walk
from millrace.errors import Invalid, MillraceError


async def local_files(place: LocalPlace, bounds: Bounds, roots: Sequence[Root]) -> Landing:
    """Return the files below a folder, sorted by path.

    Raises:
        PlaceRefused: the folder is reached through a link that leads out of the roots.
        Invalid: it holds links, devices, or names that no version may hold.
    """
    found = await asyncio.to_thread(_walk, Path(place.path), bounds, roots)
    files = [Landed(item.path, item.stat.st_size, _reader(item), item.stat.st_mtime_ns) for item in found]
    if not files:
        raise NothingLanded(f"no file lies below {place.uri}")
    check_names(files, openly=bounds.openly)
    return Landing(f"{place.uri}/", files)


async def local_archive(place: LocalPlace, bounds: Bounds, roots: Sequence[Root]) -> tuple[int, Read]:
    """Return size in bytes and reader of an archive.

    Raises:
        PlaceRefused, NothingLanded, LandingTooLarge: what their names say.
    """
    path = Path(place.path)
    info = await asyncio.to_thread(_plain, path, roots)
    if not stat.S_ISREG(info.st_mode) or not info.st_size:
        raise NothingLanded(f"no archive lies at {place.uri}")
    if info.st_size > bounds.max_bytes:
        raise LandingTooLarge(f"the archive is larger than {bounds.max_bytes} bytes")
    return info.st_size, _reader(Found(path.name, str(path), info))


def _plain(path: Path, roots: Sequence[Root]) -> os.stat_result:
    """Return what lies at a path that really lies below a root."""
    try:
        real = path.resolve(strict=True)
        inside = any(real.is_relative_to(Path(root.path).resolve()) for root in roots if root.holds(str(path)))
        info = path.lstat()
    except OSError:
        raise NothingLanded("nothing lies at the place") from None
    if not inside or stat.S_ISLNK(info.st_mode):
        raise PlaceRefused("the place is reached through a link")
    return info


def _walk(top: Path, bounds: Bounds, roots: Sequence[Root]) -> list[Found]:
    if not stat.S_ISDIR(_plain(top, roots).st_mode):
        raise NothingLanded("the place is no folder", hint="announce an archive with its format")
    found: list[Found] = []
    size = 0
    try:
        for item in walk(top):
            if not item.regular:
                raise Invalid("the folder holds a link or a device")
            if item.path in MARKS:
                continue
            found.append(item)
            size += item.stat.st_size
            if len(found) > bounds.max_files or size > bounds.max_bytes:
                raise LandingTooLarge(f"more than {bounds.max_files} files or {bounds.max_bytes} bytes lie there")
    except OSError as error:
        raise Invalid(f"a folder cannot be read: {error.strerror}") from None
    return sorted(found, key=lambda item: item.path)


def _reader(item: Found) -> Read:
    source = found_file(item.path, item)

    async def read(offset: int, length: int) -> bytes:
        try:
            return await source.read(offset, length)
        except Changed:
            raise LandingChanged("a landed file changed while it was read") from None
        except MillraceError as error:
            raise type(error)(f"a landed file cannot be read: {error.title}") from None

    return read
