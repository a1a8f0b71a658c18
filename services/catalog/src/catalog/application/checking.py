"""Checks that a dataset demands: kept with it, and passed by a version before it is committed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from catalog.application.caller import Caller
from catalog.application.ports import Documents, Unit
from catalog.application.versions import find_dataset
from catalog.domain.datasets import Dataset, Version
from catalog.errors import ChecksChanged
from millrace.checks import Checks, Failure
from millrace.checks.document import checks_from
from millrace.checks.evaluate import check_attested
from millrace.errors import ChecksFailed, Invalid

SHOWN = 20


class Checker(Protocol):
    """Judges versions in the lake."""

    async def failures(self, project: str, manifest: str, records: str | None, checks: Checks) -> list[Failure]:
        """Return what a version fails, programs of the project's own aside. Raises ObjectMissing, Corrupt."""


def checks_of(dataset: Dataset) -> Checks:
    """Return the checks of a dataset; most have none."""
    return checks_from(json.loads(dataset.checks)) if dataset.checks else Checks()


async def set_checks(name: str, document: Any, caller: Caller, *, uow: Unit) -> Checks:
    """Demand these checks of every version to come.

    Raises:
        Invalid: the document is none, or names a program without the digest of its text.
    """
    checks = checks_from(document)
    for check in checks.checks:
        if check.python is not None and check.python.blake3 is None:
            raise Invalid(f"check {check.name!r} names a program without `blake3`", hint="the CLI fills it in")
    dataset = await find_dataset(caller.project, name, documents=uow)
    text = json.dumps(checks.document, sort_keys=True) if checks.checks else ""
    if text != dataset.checks:
        await uow.datasets.save(replace(dataset, checks=text))
        detail = {"digest": checks.digest, "checks": [check.name for check in checks.checks]}
        uow.audit(caller.principal, "dataset.checks", f"dataset:{name}", caller.project, detail)
    return checks


async def get_checks(name: str, caller: Caller, *, documents: Documents) -> Checks:
    """Return what a dataset demands."""
    return checks_of(await find_dataset(caller.project, name, documents=documents))


async def demand(
    dataset: Dataset, manifest: str, records: str | None, attested: Mapping[str, str], *, checker: Checker
) -> str | None:
    """Return the digest of the checks that a version to be committed passes, None where there are none.

    Raises:
        ChecksFailed: it fails some; the error says which and where.
    """
    checks = checks_of(dataset)
    if not checks.checks:
        return None
    found = await checker.failures(dataset.project, manifest, records, checks)
    found = [*found, *check_attested(checks, attested)]
    if found:
        raise ChecksFailed(
            f"{len(found)} checks failed. " + "; ".join(map(str, found[:SHOWN])),
            hint=f"`millrace data checks show {dataset.name}` lists what every version must hold",
            failures=[failure_view(failure) for failure in found[:SHOWN]],
        )
    return checks.digest


def still_demanded(dataset: Dataset, passed: str | None) -> None:
    """Return if the checks that were passed are the dataset's still.

    Raises:
        ChecksChanged: they were changed meanwhile.
    """
    checks = checks_of(dataset)
    if (checks.digest if checks.checks else None) != passed:
        raise ChecksChanged("the dataset's checks changed meanwhile", hint="commit again")


async def try_checks(version: Version, checks: Checks, *, checker: Checker) -> list[Failure]:
    """Return what an existing version fails of these checks; programs are not run."""
    return await checker.failures(version.project, version.manifest, version.records, checks)


def failure_view(failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON types."""
    return {"check": failure.check, "reason": failure.reason, "where": list(failure.where)}
