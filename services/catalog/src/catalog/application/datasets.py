"""Datasets: describing them, and advancing their heads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from catalog.application import views
from catalog.application.caller import Caller, Reply, answered, fingerprint, once
from catalog.application.causes import cause_of
from catalog.application.checking import Checker, demand, still_demanded
from catalog.application.collecting import ObjectName, spare
from catalog.application.encryption import settle
from catalog.application.lake import CommitDraft, Contents, Lake
from catalog.application.ports import Documents, Transact, Unit
from catalog.application.versions import find_dataset
from catalog.domain.datasets import Dataset, Version, dataset_id, version_id
from catalog.domain.records import edge
from catalog.errors import ContentMismatch, ObjectMissing
from millrace.clock import Clock
from millrace.events import DatasetCommitted, Lineage
from millrace.failpoints import fp

SHOWN_MISSING = 20


async def describe_dataset(name: str, description: str, caller: Caller, *, uow: Unit, clock: Clock) -> Reply:
    """Create the dataset, or change its description."""
    dataset = await uow.datasets.get(dataset_id(caller.project, name))
    if dataset is None:
        dataset = Dataset(
            id=dataset_id(caller.project, name),
            project=caller.project,
            name=name,
            description=description,
            created_by=caller.principal,
            created_at=clock.now(),
        )
        await settle(caller, uow=uow, clock=clock)
        await uow.datasets.add(dataset)
        uow.audit(caller.principal, "dataset.create", f"dataset:{name}", caller.project, {})
        return Reply(201, views.dataset(dataset))
    if dataset.removed is not None:
        revived = dataset.revive(description=description, by=caller.principal, at=clock.now())
        dataset = await uow.datasets.save(revived)
        uow.audit(caller.principal, "dataset.create", f"dataset:{name}", caller.project, {"again": True})
        return Reply(201, views.dataset(dataset))
    if dataset.description != description:
        dataset = await uow.datasets.save(replace(dataset, description=description))
        uow.audit(caller.principal, "dataset.describe", f"dataset:{name}", caller.project, {})
    return Reply(200, views.dataset(dataset))


@dataclass(frozen=True)
class CommitDataset:
    """A new version, on top of `parent`, of what `manifest` lists."""

    dataset: str
    manifest: str
    tree_root: str
    files: int
    bytes: int
    parent: str | None
    packs: tuple[str, ...] = ()
    message: str = ""
    lineage: dict[str, Any] = field(default_factory=dict)
    records: str | None = field(default=None, repr=False)
    attested: dict[str, str] = field(default_factory=dict, repr=False)


async def commit_dataset(
    cmd: CommitDataset,
    caller: Caller,
    *,
    documents: Documents,
    transact: Transact,
    lake: Lake,
    checker: Checker,
    clock: Clock,
) -> Reply:
    """Verify what the lake holds and the dataset demands, then advance the head and announce it, all or nothing.

    A crash before the transaction leaves only unreferenced objects. The tree root that is the head's already is
    answered with the version that exists.
    """
    mark = _mark(cmd)
    if (stored := await answered(documents, caller, mark)) is not None:
        return stored
    dataset = await find_dataset(caller.project, cmd.dataset, documents=documents)
    if (same := await _same_tree(documents, dataset, cmd)) is not None:
        return same
    dataset.advance(parent=cmd.parent, commit="", tree_root=cmd.tree_root)  # refuses early what can't win
    contents = await _verified(cmd, caller, documents, lake)
    passed = await demand(dataset, cmd.manifest, cmd.records, cmd.attested, checker=checker)
    await fp("commit.D5.before")
    draft = _draft(cmd, caller, clock)
    commit = await lake.write_commit(caller.project, draft)
    await fp("commit.D5.after")

    async def work(uow: Unit) -> Reply:
        async def advance() -> Reply:
            return await _advance(cmd, caller, Verified(commit, draft.at, contents, passed), uow=uow)

        return await once(uow, caller, mark, advance, clock=clock)

    await fp("commit.D6.before")
    reply = await transact(work)
    await fp("commit.D6.after")
    return reply


def _mark(cmd: CommitDataset) -> str:
    """Return the fingerprint; a commit that says no more than commits used to has the one it used to have."""
    said = [part for part in (cmd.records, cmd.attested) if part]
    return fingerprint("commit", [cmd, *said] if said else cmd)


def _draft(cmd: CommitDataset, caller: Caller, clock: Clock) -> CommitDraft:
    return CommitDraft(
        parents=(cmd.parent,) if cmd.parent else (),
        tree_root=cmd.tree_root,
        manifest=cmd.manifest,
        files=cmd.files,
        bytes=cmd.bytes,
        author=caller.principal,
        message=cmd.message,
        at=_to_milliseconds(clock.now()),
        lineage=cmd.lineage,
        records=cmd.records,
    )


def _to_milliseconds(moment: datetime) -> datetime:
    """Return what MongoDB keeps of a time, so that the commit object can be written again from what it remembers."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


async def _same_tree(documents: Documents, dataset: Dataset, cmd: CommitDataset) -> Reply | None:
    if dataset.head is None or dataset.head.tree_root != cmd.tree_root:
        return None
    version = await documents.versions.get(version_id(dataset.project, dataset.name, dataset.head.version))
    return Reply(200, views.version(version)) if version else None


async def _verified(cmd: CommitDataset, caller: Caller, documents: Documents, lake: Lake) -> Contents:
    contents = await lake.contents(caller.project, cmd.manifest)
    claimed = (cmd.tree_root, cmd.files, cmd.bytes)
    if (contents.tree_root, contents.files, contents.bytes) != claimed:
        raise ContentMismatch(
            "the manifest does not hold what the request claims",
            tree_root=contents.tree_root,
            files=contents.files,
            bytes=contents.bytes,
        )
    known = await _packs_of(documents, caller.project, cmd)
    new = sorted(set(contents.packs) - known)
    gone = await lake.missing(caller.project, "packs", new)
    gone += await lake.missing(caller.project, "chunks", list(contents.chunks))
    if gone:
        raise ObjectMissing(
            f"{len(gone)} objects that the manifest names are not in the lake",
            hint="upload them, then commit again",
            missing=gone[:SHOWN_MISSING],
        )
    if cmd.records is not None:
        await lake.check_records(caller.project, cmd.records, cmd.manifest)
    return contents


async def _packs_of(documents: Documents, project: str, cmd: CommitDataset) -> set[str]:
    if cmd.parent is None:
        return set()
    found = await documents.versions.find({"project": project, "dataset": cmd.dataset, "commit": cmd.parent}, limit=1)
    return set(found[0].packs) if found else set()


@dataclass(frozen=True)
class Verified:
    """What a transaction commits: the commit object's id and time, what it holds, and the checks that it passed."""

    commit: str
    at: datetime
    contents: Contents
    checks: str | None


async def _advance(cmd: CommitDataset, caller: Caller, found: Verified, *, uow: Unit) -> Reply:
    dataset = await find_dataset(caller.project, cmd.dataset, documents=uow)
    if (same := await _same_tree(uow, dataset, cmd)) is not None:
        return same
    still_demanded(dataset, found.checks)
    await spare(caller.project, _needs(cmd, found), uow=uow)
    moved = await uow.datasets.save(dataset.advance(parent=cmd.parent, commit=found.commit, tree_root=cmd.tree_root))
    assert moved.head is not None  # noqa: S101 - `advance` sets it; assertions stay on in production
    version = Version(
        id=version_id(caller.project, cmd.dataset, moved.head.version),
        project=caller.project,
        dataset=cmd.dataset,
        version=moved.head.version,
        commit=found.commit,
        parent=cmd.parent,
        tree_root=cmd.tree_root,
        manifest=cmd.manifest,
        files=cmd.files,
        bytes=cmd.bytes,
        packs=found.contents.packs,
        author=caller.principal,
        message=cmd.message,
        lineage=cmd.lineage,
        records=cmd.records,
        checks=found.checks,
        created_at=found.at,
    )
    await uow.versions.add(version)
    await _trace(version, dataset, uow)
    correlation = await _announce(version, caller, uow)
    resource = f"dataset:{version.dataset}@{version.version}"
    uow.audit(
        caller.principal,
        "dataset.commit",
        resource,
        caller.project,
        {"commit": found.commit, "correlation": correlation},
    )
    return Reply(201, views.version(version))


def _needs(cmd: CommitDataset, found: Verified) -> set[ObjectName]:
    needs: set[ObjectName] = {("manifests", cmd.manifest), ("commits", found.commit)}
    needs |= {("packs", pack) for pack in (*found.contents.packs, *found.contents.spares)}
    needs |= {("chunks", chunk) for chunk in found.contents.chunks}
    return needs | ({("records", cmd.records)} if cmd.records else set())


async def _announce(version: Version, caller: Caller, uow: Unit) -> str:
    cause = await cause_of(uow, version.lineage.get("event"), caller.causation)
    data = DatasetCommitted(
        dataset=version.dataset,
        version=version.version,
        commit=version.commit,
        tree_root=version.tree_root,
        manifest=version.manifest,
        parent=version.parent,
        files=version.files,
        bytes=version.bytes,
        message=version.message,
        lineage=Lineage.model_validate(version.lineage),
    )
    event = uow.emit(
        data,
        project=version.project,
        subject=version.dataset,
        sequence=version.version,
        cause=cause,
        principal=caller.principal,
        correlation=None if cause else caller.correlation,
    )
    return event.correlationid


async def _trace(version: Version, before: Dataset, uow: Unit) -> None:
    """Add the edges that say where the version came from."""
    node = f"dataset:{version.dataset}@{version.version}"
    sources: list[tuple[str, str]] = []
    if before.head is not None:
        sources.append((f"dataset:{version.dataset}@{before.head.version}", "parent"))
    relations = ("event", "incident", "queue", "run")
    sources += [(f"{name}:{version.lineage[name]}", name) for name in relations if version.lineage.get(name)]
    for source, relation in sources:
        await uow.edges.add(edge(version.project, source, relation, node))
