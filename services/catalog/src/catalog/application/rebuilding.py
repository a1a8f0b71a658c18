"""Making again what the lake lost of a dataset: manifests from packs, commit objects from the catalog's memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from catalog.application.caller import Caller
from catalog.application.lake import CommitDraft, Lake
from catalog.application.ports import Documents
from catalog.application.versions import find_dataset
from catalog.domain.datasets import Version

BATCH = 500


async def rebuild(name: str, caller: Caller, *, documents: Documents, lake: Lake) -> dict[str, Any]:
    """Look at every version of a dataset, and write again what is missing or damaged.

    What is written again is byte for byte what was there, since its digest is its name. `lost` is what cannot be made
    again from what is left.

    Raises:
        DatasetNotFound: there is no such dataset.
    """
    versions = [version async for version in _versions(caller.project, name, documents)]
    bad = [
        version.manifest for version in versions if not await lake.manifest_is_whole(version.project, version.manifest)
    ]
    made = await lake.rebuild_manifests(caller.project, sorted(set(bad))) if bad else []
    lost = [
        {"version": version.version, "kind": "manifest", "id": version.manifest}
        for version in versions
        if version.manifest in set(bad) - set(made)
    ]
    commits = []
    for version in versions:
        if await lake.commit_is_whole(version.project, version.commit):
            continue
        if await lake.rebuild_commit(version.project, version.commit, _draft(version)):
            commits.append(version.commit)
        else:
            lost.append({"version": version.version, "kind": "commit", "id": version.commit})
    return {"versions": len(versions), "manifests": made, "commits": commits, "lost": lost}


async def _versions(project: str, name: str, documents: Documents) -> AsyncIterator[Version]:
    dataset = await find_dataset(project, name, documents=documents)
    after: int | None = None
    while found := await documents.versions.find(
        {"project": project, "dataset": name}, order="version", after=after, limit=BATCH
    ):
        for version in found:
            if version.removed_at(dataset) is None:
                yield version
        after = found[-1].version


def _draft(version: Version) -> CommitDraft:
    return CommitDraft(
        parents=(version.parent,) if version.parent else (),
        tree_root=version.tree_root,
        manifest=version.manifest,
        files=version.files,
        bytes=version.bytes,
        author=version.author,
        message=version.message,
        at=version.created_at,
        lineage=version.lineage,
        records=version.records,
    )
