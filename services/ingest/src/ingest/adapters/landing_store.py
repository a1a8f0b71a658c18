"""Landing places on S3.

A batch is finished once its folder holds an object `_SUCCESS` (what Hadoop and Spark write) or `_COMPLETE.json`. The
latter may hold `{"files": n, "bytes": n}`: if it does, that much must be there. Both are marks and never data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ingest.application.ports import Batch, Bounds, Landed, Landing, Read
from ingest.domain.names import named
from ingest.domain.places import Place
from ingest.errors import LandingChanged, LandingIncomplete, LandingTooLarge, NothingLanded
from millrace.datasets.paths import collisions, fold, printable, problem, refuse
from millrace.errors import Invalid, MillraceError, NotFound
from millrace.objects import ObjectInfo, ObjectStore

SUCCESS, COMPLETE = "_SUCCESS", "_COMPLETE.json"
MARKS = (SUCCESS, COMPLETE)
MAX_MARK_BYTES = 64 * 1024

Stamp = tuple[int, str | None, datetime | None]
"""What tells two states of an object apart: size, tag, time."""


class StoreLandingPlaces:
    """`LandingPlaces` on object stores; `stores(bucket)` opens one."""

    def __init__(self, stores: Callable[[str], ObjectStore]) -> None:
        self._stores = stores

    async def list(self, place: Place, bounds: Bounds) -> Landing:
        """Return what lies at a place, sorted by path."""
        store = self._stores(place.bucket)
        files: list[Landed] = []
        seen: dict[str, Stamp] = {}
        marks: dict[str, ObjectInfo] = {}
        size = 0
        async for info in store.list(place.prefix):
            path = info.key.removeprefix(place.prefix)
            if path in MARKS:
                marks[path] = info
            elif not (info.size == 0 and (path.endswith("/") or not path)):
                files.append(_landed(path, info, store))
                seen[info.key] = _stamp(info)
                size += info.size
            if len(files) > bounds.max_files or size > bounds.max_bytes:
                raise LandingTooLarge(
                    f"more than {bounds.max_files} files or {bounds.max_bytes} bytes lie below {place.uri}"
                )
        if not files:
            raise NothingLanded(f"no file lies below {place.uri}")
        files.sort(key=lambda landed: landed.path)
        check_names(files, openly=bounds.openly)
        landing = Landing(
            place.uri,
            files,
            mark=_mark(marks),
            promised=await _promised(store, marks.get(COMPLETE)),
            check=partial(_unchanged, store, place.prefix, seen),
        )
        _keep(landing)
        return landing

    async def batches(self, place: Place, *, limit: int) -> Sequence[Batch]:
        """Return the finished batches below a place, by folder."""
        found: dict[str, dict[str, ObjectInfo]] = {}
        async for info in self._stores(place.bucket).list(place.prefix):
            folder, _, name = info.key.rpartition("/")
            if name in MARKS:
                found.setdefault(f"{folder}/", {})[name] = info
                if len(found) > limit:
                    break
        return [
            Batch(Place(place.bucket, prefix, place.scheme), _mark(marks) or "")
            for prefix, marks in sorted(found.items())
        ][:limit]


def _stamp(info: ObjectInfo) -> Stamp:
    return info.size, info.etag, info.modified


async def _unchanged(store: ObjectStore, prefix: str, seen: Mapping[str, Stamp]) -> None:
    """Raise LandingChanged unless every object that was listed still is what it was: what was examined was written."""
    same = 0
    async for info in store.list(prefix):
        if (stamp := seen.get(info.key)) is not None:
            if stamp != _stamp(info):
                raise _changed()
            same += 1
    if same != len(seen):
        raise _changed()


def _landed(path: str, info: ObjectInfo, store: ObjectStore) -> Landed:
    changed = int(info.modified.timestamp() * 1e9) if info.modified else 0
    return Landed(path, info.size, reader(store, info.key, info.size), changed)


def reader(store: ObjectStore, key: str, size: int) -> Read:
    """Return a reader of one landed object. Its errors never quote the key: a landed name may be a person's."""

    async def read(offset: int, length: int) -> bytes:
        try:
            if offset == 0 and length == size:
                data = await store.get(key)
            else:
                data = await store.get_range(key, offset, length)
        except (NotFound, Invalid):
            raise _changed() from None
        except MillraceError as error:
            raise type(error)(f"a landed file cannot be read: {error.title}") from None
        if len(data) != length:
            raise _changed()
        return data

    return read


def _changed() -> MillraceError:
    return LandingChanged("a landed file changed while it was read", hint="land data, then announce it")


def check_names(files: Sequence[Landed], *, openly: bool) -> None:
    """Raise Invalid that names what no version may hold: by number and shape, unless names may be quoted."""
    if openly:
        refuse(f"{printable(landed.path)}: {why}" for landed in files if (why := problem(landed.path)) is not None)
        refuse(collisions(landed.path for landed in files))
        return
    refuse(
        f"{named('file', number, landed.path, openly=False)}: {why}"
        for number, landed in enumerate(files, 1)
        if (why := problem(landed.path)) is not None
    )
    seen: dict[str, int] = {}
    for number, landed in enumerate(files, 1):
        if (other := seen.setdefault(fold(landed.path), number)) != number:
            raise Invalid(f"files {other} and {number} of the landing differ only by case or Unicode form")
    if collisions(landed.path for landed in files):
        raise Invalid("a file of the landing stands where another one needs a folder")


def _mark(marks: Mapping[str, ObjectInfo]) -> str | None:
    """Return a text that changes whenever a mark is written again."""
    parts = [f"{name}:{info.etag or ''}:{info.modified or ''}" for name, info in sorted(marks.items())]
    return "|".join(parts) or None


async def _promised(store: ObjectStore, mark: ObjectInfo | None) -> Mapping[str, Any] | None:
    if mark is None or mark.size == 0:
        return None
    if mark.size > MAX_MARK_BYTES:
        raise Invalid(f"{COMPLETE} is larger than {MAX_MARK_BYTES} bytes")
    try:
        document = json.loads(await store.get(mark.key))
    except (ValueError, RecursionError):
        raise Invalid(f"{COMPLETE} is not JSON") from None
    if not isinstance(document, dict):
        raise Invalid(f"{COMPLETE} is not a JSON object")
    return document


def _keep(landing: Landing) -> None:
    """Raise LandingIncomplete unless as much is there as the producer promised."""
    there = {"files": len(landing.files), "bytes": landing.bytes}
    for name, promised in (landing.promised or {}).items():
        if name in there and promised != there[name]:
            raise LandingIncomplete(f"{COMPLETE} promises {promised!r} {name}, and there are {there[name]}")
