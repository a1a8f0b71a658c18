"""Finding versions, and letting clients at their bytes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from catalog.application.caller import Caller
from catalog.application.lake import Lake, ObjectKind
from catalog.application.ports import Documents
from catalog.domain.datasets import Dataset, Version, dataset_id, parse_reference, version_id
from catalog.errors import AmbiguousVersion, DatasetNotFound, VersionNotFound, VersionRemoved
from millrace.errors import NotFound
from millrace.objects import Presigned

MAX_PARALLEL = 16


async def find_dataset(project: str, name: str, *, documents: Documents) -> Dataset:
    """Return a dataset.

    Raises:
        DatasetNotFound: there is none of that name in the project, or it was removed.
    """
    dataset = await documents.datasets.get(dataset_id(project, name))
    if dataset is None:
        raise DatasetNotFound(f"no dataset {name}")
    if dataset.removed is not None:
        raise DatasetNotFound(
            f"dataset {name} was removed on {dataset.removed.at:%Y-%m-%d %H:%M} UTC by {dataset.removed.by}",
            hint=f"`millrace data restore {name}` brings it back while its bytes are kept",
            reason=dataset.removed.reason,
        )
    return dataset


async def find_version(project: str, name: str, reference: str, *, documents: Documents) -> Version:
    """Return the version that a number, a commit (prefix) or `latest` means.

    Raises:
        DatasetNotFound: there is no such dataset.
        VersionNotFound: there is no such version.
        VersionRemoved: it was removed.
        AmbiguousVersion: the prefix fits several.
    """
    dataset = await find_dataset(project, name, documents=documents)
    version = await any_version(dataset, reference, documents=documents)
    if version.removed_at(dataset) is not None:
        raise _removed(version)
    return version


def _removed(version: Version) -> VersionRemoved:
    what = f"{version.dataset}@{version.version}"
    if version.removed is None:
        return VersionRemoved(f"{what} went with an earlier dataset of that name")
    return VersionRemoved(
        f"{what} was removed on {version.removed.at:%Y-%m-%d %H:%M} UTC by {version.removed.by}",
        hint=f"`millrace data restore {what}` brings it back while its bytes are kept",
        reason=version.removed.reason,
    )


async def any_version(dataset: Dataset, reference: str, *, documents: Documents) -> Version:
    """Return the version that a reference means, removed or not; see `find_version`."""
    parsed = parse_reference(reference)
    if parsed.prefix is not None:
        where = {"project": dataset.project, "dataset": dataset.name}
        found = await documents.versions.find(where, prefix=("commit", parsed.prefix), order="commit", limit=2)
        if len(found) > 1:
            raise AmbiguousVersion(f"commit prefix {parsed.prefix} fits several versions of {dataset.name}")
        version = found[0] if found else None
    else:
        number = parsed.number or (dataset.head.version if dataset.head else 0)
        version = await documents.versions.get(version_id(dataset.project, dataset.name, number))
    if version is None:
        raise VersionNotFound(f"no version {reference} of dataset {dataset.name}")
    return version


@dataclass(frozen=True)
class WantedObject:
    """An object by kind and id."""

    kind: ObjectKind
    id: str


async def open_uploads(
    name: str, objects: list[WantedObject], caller: Caller, *, documents: Documents, lake: Lake
) -> list[dict[str, Any]]:
    """Return for each object URL and headers of the PUT that sends it; no URL where the lake has it already."""
    await find_dataset(caller.project, name, documents=documents)
    limit = asyncio.Semaphore(MAX_PARALLEL)

    async def one(wanted: WantedObject) -> dict[str, Any]:
        async with limit:
            gone = await lake.missing(caller.project, wanted.kind, [wanted.id])
            put = await lake.presign("PUT", caller.project, wanted.kind, wanted.id) if gone else None
        return _opened(wanted, put)

    return list(await asyncio.gather(*(one(wanted) for wanted in objects)))


async def open_downloads(version: Version, objects: list[WantedObject], *, lake: Lake) -> list[dict[str, Any]]:
    """Return for each object of the version URL and headers of the GET that fetches it.

    Raises:
        NotFound: an object is no part of this version.
    """
    allowed = {("manifests", version.manifest), ("commits", version.commit)}
    allowed |= {("packs", pack) for pack in version.packs}
    if any(wanted.kind == "chunks" for wanted in objects):
        contents = await lake.contents(version.project, version.manifest)
        allowed |= {("chunks", chunk) for chunk in contents.chunks}
    for wanted in objects:
        if (wanted.kind, wanted.id) not in allowed:
            raise NotFound(f"{wanted.kind}/{wanted.id} is no part of {version.dataset}@{version.version}")
    return [_opened(wanted, await lake.presign("GET", version.project, wanted.kind, wanted.id)) for wanted in objects]


def _opened(wanted: WantedObject, request: Presigned | None) -> dict[str, Any]:
    url, headers = (None, {}) if request is None else (request.url, dict(request.headers))
    return {"kind": wanted.kind, "id": wanted.id, "url": url, "headers": headers}
