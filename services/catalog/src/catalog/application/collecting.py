"""Garbage collection: what no version needs, and asking that it go.

An object goes through two looks that are further apart than any transaction may last (see `sweeping`). At the first it
is condemned, which commits see: one that needs it spares it. At the second, whatever is condemned still and needed by
nobody is claimed and deleted; a commit that comes for it now is refused, and the client pushes it again. So no version
ever lacks an object, however commits, collections and crashes interleave.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from catalog.application.lake import Lake
from catalog.application.ports import Documents, Unit
from catalog.domain.collections import Collection, Garbage, StoredObject, Tally, condemned_id
from catalog.domain.datasets import Dataset, Version
from catalog.errors import CollectionBusy, ObjectMissing
from millrace.clock import Clock

BATCH = 500
MOST_SPARED = 10_000
"""What one transaction may spare."""
ObjectName = tuple[str, str]
"""Kind and id."""


async def find_garbage(project: str, cutoff: datetime, *, documents: Documents, lake: Lake) -> Garbage:
    """Return the objects that no version needs and that were written before `cutoff`.

    Versions removed after `cutoff` are still needed: their removal can be taken back.

    Raises:
        ObjectMissing, Corrupt: a manifest cannot be read, so that nothing is known to be garbage.
    """
    needed = await _needed(project, cutoff, documents, lake)
    garbage: list[StoredObject] = []
    kept, young = Tally(), Tally()
    async for item in lake.objects(project):
        if (item.kind, item.id) in needed:
            kept = kept.plus(item.size)
        elif item.modified is None or item.modified > cutoff:
            young = young.plus(item.size)
        else:
            garbage.append(item)
    return Garbage(garbage, kept, young)


async def _needed(project: str, cutoff: datetime, documents: Documents, lake: Lake) -> set[ObjectName]:
    needed: set[ObjectName] = set()
    async for version in _kept_versions(project, cutoff, documents):
        needed.update(await lake.objects_of(project, version.manifest))
        needed.add(("commits", version.commit))
        if version.records is not None:
            needed.add(("records", version.records))
    return needed


async def _kept_versions(project: str, cutoff: datetime, documents: Documents) -> AsyncIterator[Version]:
    datasets: dict[str, Dataset] = {}
    after: str | None = None
    while found := await documents.versions.find({"project": project}, after=after, limit=BATCH):
        for version in found:
            if version.dataset not in datasets:
                datasets[version.dataset] = await _dataset(project, version.dataset, documents)
            gone = version.removed_at(datasets[version.dataset])
            if gone is None or gone > cutoff:
                yield version
        after = found[-1].id


async def _dataset(project: str, name: str, documents: Documents) -> Dataset:
    found = await documents.datasets.find({"project": project, "name": name}, limit=1)
    return found[0]


async def ask_collection(project: str, cutoff: datetime, principal: str, *, uow: Unit, clock: Clock) -> Collection:
    """Ask that what no version needs, and what was removed before `cutoff`, go; or return what is under way."""
    known = await uow.collections.get(project)
    if known is not None and known.under_way:
        return known
    wanted = Collection(
        id=project,
        project=project,
        revision=known.revision if known else 0,
        asked_by=principal,
        asked_at=clock.now(),
        cutoff=cutoff,
    )
    if known is None:
        await uow.collections.add(wanted)
    else:
        wanted = await uow.collections.save(wanted)
    uow.audit(principal, "lake.collect", f"lake:{project}", project, {"cutoff": cutoff.isoformat()})
    return wanted


async def stop_collection(project: str, principal: str, *, uow: Unit, clock: Clock) -> Collection | None:
    """End a collection: what is condemned is spared; what is being swept still goes.

    Raises:
        CollectionBusy: too much is condemned to be spared at once.
    """
    known = await uow.collections.get(project)
    if known is None or not known.under_way:
        return known
    if await uow.condemned.count({"project": project}) > MOST_SPARED:
        raise CollectionBusy(f"more than {MOST_SPARED} objects are condemned", hint="let it end")
    for row in await uow.condemned.find({"project": project, "state": "condemned"}, limit=MOST_SPARED):
        await uow.condemned.remove(row.id)
    uow.audit(principal, "lake.spare", f"lake:{project}", project, {})
    return await uow.collections.save(known.end("stopped", at=clock.now()))


async def spare(project: str, objects: Iterable[ObjectName], *, uow: Unit) -> None:
    """Spare the objects that a new version needs, in the transaction that commits it.

    Raises:
        ObjectMissing: one is being swept; it has to be pushed again.
    """
    if not await uow.condemned.find({"project": project}, limit=1):
        return
    names = sorted(condemned_id(project, kind, object_id) for kind, object_id in objects)
    for start in range(0, len(names), BATCH):
        for row in await uow.condemned.find({"id": tuple(names[start : start + BATCH])}, limit=BATCH):
            if row.state == "sweeping":
                raise ObjectMissing(
                    "garbage collection is taking an object that the manifest names",
                    hint="upload it, then commit again",
                    missing=[row.object],
                )
            await uow.condemned.remove(row.id)
