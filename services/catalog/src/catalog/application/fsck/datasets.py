"""I2 and I3 for datasets: versions are whole, their numbers unique and without gaps; I11: each has its audit row."""

from __future__ import annotations

from catalog.application.fsck.report import Report, every
from catalog.application.lake import Lake
from catalog.application.ports import Documents
from catalog.domain.datasets import Dataset, Version
from catalog.errors import KeyLocked
from millrace.errors import Corrupt, Invalid, NotFound


async def check_datasets(report: Report, *, documents: Documents, lake: Lake) -> None:
    """Check every version of every dataset; of removed ones only what the catalog remembers."""
    async for dataset in every(documents.datasets, {}):
        where = {"project": dataset.project, "dataset": dataset.name}
        versions = [version async for version in every(documents.versions, where)]
        _check_numbers(dataset, versions, report)
        for version in versions:
            if version.removed_at(dataset) is None:
                await _look(version, lake, report)
            resource = f"dataset:{version.dataset}@{version.version}"
            where = {"project": version.project, "resource": resource, "action": "dataset.commit"}
            rows = await documents.trail.count(where)
            report.expect(rows == 1, "I11", f"{rows} audit rows instead of one", resource)


def _check_numbers(dataset: Dataset, versions: list[Version], report: Report) -> None:
    head = dataset.head
    numbers = sorted(version.version for version in versions)
    wanted = list(range(1, (head.version if head else dataset.retired) + 1))
    report.expect(numbers == wanted, "I3", f"versions {numbers[:20]} are not 1..{len(wanted)}", dataset.name)
    commits = {version.commit for version in versions}
    report.expect(len(commits) == len(versions), "I3", "one commit has several numbers", dataset.name)
    report.expect(head is None or head.commit in commits, "I3", "the head names no version", dataset.name)
    by_number = {version.version: version for version in versions}
    for version in versions:
        before = by_number.get(version.version - 1)
        fresh = version.version == 1 or (version.parent is None and version.version - 1 <= dataset.retired)
        linked = version.parent == (None if fresh or before is None else before.commit)
        report.expect(linked, "I3", "the parent is not the version before", f"{dataset.name}@{version.version}")


async def _look(version: Version, lake: Lake, report: Report) -> None:
    try:
        await _check_whole(version, lake, report)
    except KeyLocked as error:
        report.expect(False, "I2", error.message, f"{version.project}/{version.dataset}@{version.version}")


async def _check_whole(version: Version, lake: Lake, report: Report) -> None:
    where = f"{version.project}/{version.dataset}@{version.version}"
    whole = await lake.commit_is_whole(version.project, version.commit)
    report.expect(whole, "I2", f"commit object {version.commit} is missing or altered", where)
    gone = await lake.missing(version.project, "manifests", [version.manifest])
    report.expect(not gone, "I2", f"manifest {version.manifest} is missing", where)
    if gone:
        return
    contents = await lake.contents(version.project, version.manifest)
    same = (contents.tree_root, contents.files, contents.bytes) == (version.tree_root, version.files, version.bytes)
    report.expect(same, "I2", "the manifest does not hold what the version says", where)
    if version.records is not None:
        await _check_records(version, version.records, lake, report)
    lost = await lake.missing(version.project, "packs", list(contents.packs))
    lost += await lake.missing(version.project, "chunks", list(contents.chunks))
    report.expect(not lost, "I2", f"{len(lost)} objects are missing, first {lost[:1]}", where)


async def _check_records(version: Version, records: str, lake: Lake, report: Report) -> None:
    broken = ""
    try:
        await lake.check_records(version.project, records, version.manifest)
    except (Invalid, NotFound, Corrupt) as error:
        broken = error.message
    where = f"{version.project}/{version.dataset}@{version.version}"
    report.expect(not broken, "I2", f"the table of records does not fit: {broken}", where)
