"""I3 and I8 for models: numbers without gaps, aliases name what exists, packages are there; I11 for each change."""

from __future__ import annotations

from catalog.application.fsck.report import Report, every
from catalog.application.lake import Lake
from catalog.application.models import digest_of
from catalog.application.ports import Documents
from catalog.domain.models import ModelVersion


async def check_models(report: Report, *, documents: Documents, lake: Lake) -> None:
    """Check every model, its aliases, its versions, and the deployments that name them."""
    known: set[tuple[str, str, int]] = set()
    async for model in every(documents.models, {}):
        where = {"project": model.project, "model": model.name}
        versions = [version async for version in every(documents.model_versions, where)]
        numbers = sorted(version.version for version in versions)
        wanted = list(range(1, model.latest + 1))
        report.expect(numbers == wanted, "I3", f"versions {numbers[:20]} are not 1..{model.latest}", model.name)
        runs = {version.run for version in versions}
        report.expect(len(runs) == len(versions), "I4", "one run registered several versions", model.name)
        for alias, number in model.aliases.items():
            report.expect(number in numbers, "I8", f"alias {alias} names version {number}", model.name)
        for version in versions:
            await _check_version(version, report, documents=documents, lake=lake)
        known |= {(model.project, model.name, number) for number in numbers}
    await _check_deployments(known, report, documents)


async def _check_version(version: ModelVersion, report: Report, *, documents: Documents, lake: Lake) -> None:
    where = f"model:{version.model}@{version.version}"
    report.expect(digest_of(version.files) == version.digest, "I8", "the digest is not the file list's", where)
    for file in version.files:
        size = await lake.size_of(f"{version.prefix}/{file.path}")
        report.expect(size == file.size, "I8", f"{file.path} has {size} bytes instead of {file.size}", where)
    rows = await documents.trail.count({"project": version.project, "resource": where})
    report.expect(rows == 1, "I11", f"{rows} audit rows instead of one", where)


async def _check_deployments(known: set[tuple[str, str, int]], report: Report, documents: Documents) -> None:
    async for it in every(documents.deployments, {}):
        for wish in (*it.history, it.desired):
            where = f"deployment:{it.name}@{wish.revision}"
            exists = (it.project, wish.model, wish.version) in known
            report.expect(exists, "I8", f"{wish.model}@{wish.version} is not registered", where)
            rows = await documents.trail.count({"project": it.project, "resource": where})
            report.expect(rows == 1, "I11", f"{rows} audit rows instead of one", where)
