"""All checks of a document on one version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from millrace.checks.document import Check, Checks, TableRule
from millrace.checks.listing import check_bytes, check_disjoint, check_files, check_paths, check_records
from millrace.checks.tables import check_table
from millrace.checks.verdict import Failure, Verdict
from millrace.datasets.manifest import Manifest
from millrace.errors import Invalid
from millrace.records.table import RecordTable


def check_listing(checks: Checks, manifest: Manifest, records: RecordTable | None) -> list[Failure]:
    """Return what a version fails of the rules that need only its manifest and its records."""
    return [failure for check in checks.checks for failure in failures(check, _listing(check, manifest, records))]


def _listing(check: Check, manifest: Manifest, records: RecordTable | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    if check.files is not None:
        yield from check_files(check.files, manifest)
    elif check.bytes is not None:
        yield from check_bytes(check.bytes, manifest)
    elif check.paths is not None:
        yield from check_paths(check.paths, manifest)
    elif check.disjoint is not None:
        yield from check_disjoint(check.disjoint, manifest, records)
    elif check.records is not None:
        yield from check_records(check.records, records)
    elif check.table is not None and manifest.find(check.table.file) is None:
        yield f"the version has no file {check.table.file}", ()


def judge_table(rule: TableRule, path: Path) -> Verdict:
    """Return what is wrong with the table at `path`, also that it is none."""
    try:
        return list(check_table(rule, path))
    except Invalid as error:
        return [(error.message, ())]


def check_attested(checks: Checks, attested: Mapping[str, str]) -> list[Failure]:
    """Return the programs that were not run, or not in the text that the dataset demands.

    `attested` is what the one who made the version says: check → digest of the program that passed.
    """
    return [
        Failure(check.name, f"{check.python.file} was not run on this version, or in another text")
        for check in checks.checks
        if check.python is not None and attested.get(check.name) != check.python.blake3
    ]


def failures(check: Check, verdict: Iterator[tuple[str, tuple[str, ...]]] | Verdict) -> list[Failure]:
    """Return a verdict as failures of a check."""
    return [Failure(check.name, reason, places) for reason, places in verdict]
