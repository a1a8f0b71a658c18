"""Landing places on S3.

A batch is finished once its folder holds an object `_SUCCESS` (what Hadoop and Spark write) or `_COMPLETE.json`. The
latter may hold `{"files": n, "bytes": n}`: if it does, that much must be there. Both are marks and never data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingest.application.ports import Batch, Landed, Landing
from ingest.domain.places import Place
from ingest.errors import LandingIncomplete, LandingTooLarge, NothingLanded
from millrace.datasets.paths import collisions, printable, problem, refuse
from millrace.errors import Invalid
from millrace.objects import ObjectInfo, ObjectStore

SUCCESS, COMPLETE = "_SUCCESS", "_COMPLETE.json"
MARKS = (SUCCESS, COMPLETE)
MAX_MARK_BYTES = 64 * 1024


class StoreLandingPlaces:
    """`LandingPlaces` on object stores; `stores(bucket)` opens one."""

    def __init__(self, stores: Callable[[str], ObjectStore]) -> None:
        self._stores = stores

    async def list(self, place: Place, *, max_files: int, max_bytes: int) -> Landing:
        """Return what lies at a place, sorted by path."""
        store = self._stores(place.bucket)
        files: list[Landed] = []
        marks: dict[str, ObjectInfo] = {}
        size = 0
        async for info in store.list(place.prefix):
            path = info.key.removeprefix(place.prefix)
            if path in MARKS:
                marks[path] = info
            elif not (info.size == 0 and (path.endswith("/") or not path)):
                files.append(_landed(path, info))
                size += info.size
            if len(files) > max_files or size > max_bytes:
                raise LandingTooLarge(f"more than {max_files} files or {max_bytes} bytes lie below {place.uri}")
        if not files:
            raise NothingLanded(f"no file lies below {place.uri}")
        _check(files)
        files.sort(key=lambda landed: landed.path)
        landing = Landing(place, files, mark=_mark(marks), promised=await _promised(store, marks.get(COMPLETE)))
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
        return [Batch(Place(place.bucket, prefix), _mark(marks) or "") for prefix, marks in sorted(found.items())][
            :limit
        ]


def _landed(path: str, info: ObjectInfo) -> Landed:
    changed = int(info.modified.timestamp() * 1e9) if info.modified else 0
    return Landed(path=path, key=info.key, size=info.size, mtime_ns=changed)


def _check(files: Sequence[Landed]) -> None:
    """Raise Invalid that names every path which no version may hold."""
    refuse(f"{printable(landed.path)}: {why}" for landed in files if (why := problem(landed.path)) is not None)
    refuse(collisions(landed.path for landed in files))


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
