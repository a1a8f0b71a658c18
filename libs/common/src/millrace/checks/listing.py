"""Rules about paths and sizes, on the manifest's columns: 600,000 files cost fractions of a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.checks.document import BytesRule, DisjointRule, FilesRule, PathsRule, RecordsRule
from millrace.checks.verdict import SHOWN, outside
from millrace.datasets.manifest import Manifest
from millrace.datasets.paths import printable
from millrace.datasets.patterns import matching
from millrace.records.table import RecordTable

Found = Iterator[tuple[str, tuple[str, ...]]]
"""Reasons, and places."""


def _chosen(manifest: Manifest, patterns: Sequence[str]) -> Any:
    paths = manifest.table.column("path").combine_chunks()
    return matching(paths, patterns) if patterns else np.ones(len(paths), dtype=bool)


def check_files(rule: FilesRule, manifest: Manifest) -> Found:
    """Count files."""
    count = int(_chosen(manifest, rule.match).sum())
    if problem := outside(count, rule.min, rule.max):
        yield f"{count} files, {problem}", ()


def check_bytes(rule: BytesRule, manifest: Manifest) -> Found:
    """Add sizes up."""
    total = int(manifest.table.column("size").to_numpy()[_chosen(manifest, rule.match)].sum())
    if problem := outside(total, rule.min, rule.max):
        yield f"{total} bytes, {problem}", ()


def check_paths(rule: PathsRule, manifest: Manifest) -> Found:
    """Compare paths with patterns."""
    paths = manifest.table.column("path").combine_chunks()
    if rule.allow:
        yield from _some(paths, ~matching(paths, rule.allow), "files match no allowed pattern")
    yield from _some(paths, matching(paths, rule.forbid), "files match a forbidden pattern")
    for pattern in rule.require:
        if not matching(paths, [pattern]).any():
            yield f"no file matches {pattern!r}", ()


def _some(paths: Any, mask: Any, what: str) -> Found:
    rows = np.flatnonzero(mask)
    if len(rows):
        yield f"{len(rows)} {what}", tuple(printable(paths[int(row)].as_py()) for row in rows[:SHOWN])


def check_disjoint(rule: DisjointRule, manifest: Manifest, records: RecordTable | None) -> Found:
    """Look for groups in more than one split."""
    if rule.field is None:
        splits, groups = _by_path(rule.path, manifest.table.column("path").combine_chunks())
    elif records is None:
        yield "the version has no records, whose field says the group", ()
        return
    else:
        paths, groups = _fields(records, rule.type, rule.field)
        splits, _ = _by_path(rule.path, paths)
        groups = pa.array(groups, pa.string())
    table = pa.table({"split": splits, "group": groups}).drop_null()
    if not table.num_rows:
        yield "no file has a split and a group", ()
        return
    pairs = table.group_by(["group", "split"]).aggregate([])
    counts = pairs.group_by("group").aggregate([("split", "count")])
    twice = counts.filter(pc.greater(counts.column("split_count"), 1)).column("group")
    if len(twice):
        shown = pc.take(twice, pc.sort_indices(twice)[:SHOWN]).to_pylist()
        yield f"{len(twice)} groups are in more than one split", tuple(printable(name) for name in shown)


def _by_path(expression: str, paths: Any) -> tuple[Any, Any]:
    found = pc.extract_regex(paths, expression)
    group = found.field("group") if found.type.get_field_index("group") >= 0 else pa.nulls(len(paths), pa.string())
    missing = pc.invert(found.is_valid())
    return pc.if_else(missing, None, found.field("split")), pc.if_else(missing, None, group)


def _fields(records: RecordTable, kind: str | None, field: str) -> tuple[Any, list[str | None]]:
    paths, values = [], []
    for record in records.records():
        if record.path is not None and (kind is None or record.type == kind):
            value = record.facts().get(field)
            paths.append(record.path)
            values.append(None if value is None else str(value))
    return pa.array(paths, pa.string()), values


def check_records(rule: RecordsRule, records: RecordTable | None) -> Found:
    """Count records of a type, and compare their metadata fields with ranges."""
    found = [] if records is None else [record for record in records.records() if record.type == rule.type]
    if problem := outside(len(found), rule.min, rule.max):
        yield f"{len(found)} records of type {rule.type}, {problem}", ()
    told = [(record.id, record.facts()) for record in found] if rule.fields else []
    for name, bounds in rule.fields.items():
        bad = [place for place, facts in told if not _within(facts.get(name), bounds.min, bounds.max)]
        if bad:
            places = tuple(printable(place) for place in bad[:SHOWN])
            yield f"{len(bad)} records have no {name} within the range", places


def _within(value: Any, minimum: float | None, maximum: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return outside(value, minimum, maximum) is None
