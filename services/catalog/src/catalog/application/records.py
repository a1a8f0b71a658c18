"""The typed records of a version. A version that people pushed has none, and says so with an empty page."""

from __future__ import annotations

from catalog.application.lake import Lake
from catalog.application.views import View
from catalog.domain.datasets import Version
from millrace.errors import Invalid
from millrace.records import Record


async def list_records(
    version: Version, *, kind: str | None, path: str, after: str | None, limit: int, lake: Lake
) -> View:
    """Return a page of records, by id.

    Raises:
        Invalid: `after` is not the `next` of a page.
    """
    if version.records is None:
        return {"records": None, "items": [], "next": None}
    found, more = await lake.record_page(
        version.project, version.records, kind=kind, path=path, start=_start(after), limit=limit
    )
    following = None if more is None else str(more)
    return {"records": version.records, "items": [record(item) for item in found], "next": following}


async def summarise_records(version: Version, *, lake: Lake) -> View:
    """Return how many records of each type there are, their bytes, and the names of their metadata fields."""
    found = [] if version.records is None else await lake.record_summary(version.project, version.records)
    return {
        "records": version.records,
        "total": sum(item.records for item in found),
        "types": {item.type: {"records": item.records, "bytes": item.bytes} for item in found},
        "columns": {item.type: list(item.fields) for item in found},
    }


def record(item: Record) -> View:
    """Return one record."""
    return {
        "id": item.id,
        "type": item.type,
        "path": item.path,
        "size": item.size,
        "digest": item.digest,
        "media_type": item.media_type,
        "source": item.source,
        "references": [
            {"role": other.role, "link": other.link, "digest": other.digest, "size": other.size}
            for other in item.references
        ],
        "metadata": item.facts(),
    }


def _start(after: str | None) -> int:
    if after is None:
        return 0
    if not (after.isascii() and after.isdecimal() and len(after) < 10):
        raise Invalid("`after` is the `next` of a page of records")
    return int(after)
