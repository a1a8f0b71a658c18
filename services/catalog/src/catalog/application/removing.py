"""Taking versions and datasets away, and bringing them back for as long as their bytes are kept.

A removal is a tombstone and an event: copies are cleared, the name says who removed it and why, and garbage collection
may take the bytes once the grace is over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from catalog.application import views
from catalog.application.caller import Caller, Reply
from catalog.application.ports import Documents, Unit
from catalog.application.versions import any_version, find_dataset
from catalog.domain.datasets import Dataset, Removal, Version, dataset_id
from catalog.errors import DatasetNotFound, NameTaken, VersionInUse, VersionRemoved
from millrace.clock import Clock
from millrace.events import DatasetRemoved, DatasetRestored

MAX_USES = 1_000
SHOWN_USES = 20


@dataclass(frozen=True)
class Remove:
    """A wish to take a version, or without `reference` a whole dataset, away; `force` although things rest on it."""

    dataset: str
    reference: str | None = None
    reason: str = ""
    force: bool = False


async def remove(cmd: Remove, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    """Remove a version or a dataset. Repeating it changes nothing.

    Raises:
        StillTheHead: a single version that is the head.
        VersionInUse: runs or models rest on it, and `force` is not said.
    """
    removal = Removal(at=clock.now(), by=caller.principal, reason=cmd.reason)
    if cmd.reference is None:
        return await _remove_dataset(cmd, removal, caller, uow=uow)
    dataset = await find_dataset(caller.project, cmd.dataset, documents=uow)
    version = await any_version(dataset, cmd.reference, documents=uow)
    if version.removed_at(dataset) is not None:
        return Reply(200, views.version(version))
    dataset.check_removable(version)
    used = await _uses(f"dataset:{version.dataset}@{version.version}", caller.project, uow)
    _refuse_used(used, cmd, f"{version.dataset}@{version.version}")
    dataset = await uow.datasets.save(dataset)
    version = await uow.versions.save(replace(version, removed=removal))
    _tell_removed(dataset, version, removal, used, uow=uow)
    return Reply(200, views.version(version))


async def _remove_dataset(cmd: Remove, removal: Removal, caller: Caller, *, uow: Unit) -> Reply:
    dataset = await uow.datasets.get(dataset_id(caller.project, cmd.dataset))
    if dataset is None:
        raise DatasetNotFound(f"no dataset {cmd.dataset}")
    if dataset.removed is not None:
        return Reply(200, views.dataset(dataset))
    used = await _uses(f"dataset:{cmd.dataset}@", caller.project, uow)
    _refuse_used(used, cmd, cmd.dataset)
    dataset = await uow.datasets.save(replace(dataset, removed=removal))
    _tell_removed(dataset, None, removal, used, uow=uow)
    return Reply(200, views.dataset(dataset))


async def _uses(node: str, project: str, documents: Documents) -> list[str]:
    """Return what came of a version, or of all whose node begins so: runs, and what they read it for."""
    if node.endswith("@"):
        edges = await documents.edges.find(
            {"project": project}, prefix=("source", node), order="source", limit=MAX_USES
        )
    else:
        edges = await documents.edges.find({"project": project, "source": node}, limit=MAX_USES)
    return sorted({edge.target for edge in edges if edge.relation != "parent"})


def _refuse_used(used: list[str], cmd: Remove, what: str) -> None:
    if used and not cmd.force:
        raise VersionInUse(
            f"{len(used)} things rest on {what}, first {used[0]}",
            hint="they could not be reproduced any more; `force` removes it all the same",
            used_by=used[:SHOWN_USES],
        )


def _tell_removed(dataset: Dataset, version: Version | None, removal: Removal, used: list[str], *, uow: Unit) -> None:
    data = DatasetRemoved(
        dataset=dataset.name,
        version=version.version if version else None,
        commit=version.commit if version else None,
        reason=removal.reason,
    )
    _emit(data, dataset, removal.by, uow)
    detail = {"reason": removal.reason, "used_by": used[:SHOWN_USES]}
    uow.audit(removal.by, "dataset.remove", _resource(dataset, version), dataset.project, detail)


async def restore(name: str, reference: str | None, caller: Caller, *, uow: Unit) -> Reply:
    """Bring a removed version or dataset back, while its bytes are there. Repeating it changes nothing.

    Raises:
        NameTaken: the dataset's name was used again, or garbage collection took the bytes.
        VersionRemoved: the dataset itself is removed.
    """
    dataset = await uow.datasets.get(dataset_id(caller.project, name))
    if dataset is None:
        raise DatasetNotFound(f"no dataset {name}")
    if reference is None:
        return await _restore_dataset(dataset, caller, uow=uow)
    if dataset.removed is not None:
        raise VersionRemoved(f"dataset {name} is removed", hint="restore the dataset first")
    version = await any_version(dataset, reference, documents=uow)
    if version.version <= dataset.retired:
        raise NameTaken(f"{name}@{version.version} went with an earlier dataset of that name")
    if version.removed is not None:
        await _refuse_collected(caller.project, version.removed, uow)
        dataset = await uow.datasets.save(dataset)
        version = await uow.versions.save(replace(version, removed=None))
        _tell_restored(dataset, version, caller, uow)
    return Reply(200, views.version(version))


async def _restore_dataset(dataset: Dataset, caller: Caller, *, uow: Unit) -> Reply:
    if dataset.removed is not None:
        await _refuse_collected(caller.project, dataset.removed, uow)
        dataset = await uow.datasets.save(replace(dataset, removed=None))
        _tell_restored(dataset, None, caller, uow)
    return Reply(200, views.dataset(dataset))


async def _refuse_collected(project: str, removal: Removal, uow: Unit) -> None:
    """Refuse what a collection looked at after the removal's grace was over; it may have lost bytes."""
    collection = await uow.collections.get(project)
    if collection is not None and collection.reaches(removal.at):
        raise NameTaken(
            "garbage collection has taken the bytes, or is about to",
            hint="push the data again as a new version",
            removed_at=views.when(removal.at),
        )


def _tell_restored(dataset: Dataset, version: Version | None, caller: Caller, uow: Unit) -> None:
    data = DatasetRestored(
        dataset=dataset.name,
        version=version.version if version else None,
        commit=version.commit if version else None,
    )
    _emit(data, dataset, caller.principal, uow)
    uow.audit(caller.principal, "dataset.restore", _resource(dataset, version), caller.project, {})


def _emit(data: DatasetRemoved | DatasetRestored, dataset: Dataset, principal: str, uow: Unit) -> None:
    uow.emit(
        data,
        project=dataset.project,
        subject=dataset.name,
        sequence=dataset.revision,
        principal=principal,
    )


def _resource(dataset: Dataset, version: Version | None) -> str:
    return f"dataset:{dataset.name}@{version.version}" if version else f"dataset:{dataset.name}"
