"""Reading versions in Spark: the driver reads the manifest once and hands each task its part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import datasource as ds
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from millrace.datasets.builder import subset
from millrace.datasets.manifest import Manifest
from millrace.errors import Invalid
from millrace_sdk import tables
from millrace_sdk.datasets import Dataset

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

    from millrace_sdk.integrations.spark_options import Options

BATCH_BYTES = 32 * 1024 * 1024
BATCH_FILES = 4_096
MAX_CELL = 2**31 - 1
"""Spark's largest binary value."""


@dataclass
class Part(ds.InputPartition):  # type: ignore[misc]
    """What one task reads: the part of a version's manifest that names its files."""

    version: int
    manifest: bytes


def table_schema(options: Options) -> StructType:
    """Return the columns of the first table that is meant."""
    with closing(_opened(options)) as dataset:
        path = tables.matching(dataset.paths, options.table or "")[0]
        return from_arrow_schema(tables.schema_of(dataset, path))


def check_columns(wanted: StructType, known: StructType) -> None:
    """Raise Invalid unless every column that is wanted is known, with its type."""
    types = {field.name: field.dataType for field in known}
    for field in wanted:
        if types.get(field.name) != field.dataType:
            columns = ", ".join(f"{name} {kind.simpleString()}" for name, kind in types.items())
            raise Invalid(f"files have no column {field.name} {field.dataType.simpleString()}", hint=columns)


class FileReader(ds.DataSourceReader):  # type: ignore[misc]
    """Files as rows. Content is fetched only where that column is wanted, and every byte is verified."""

    def __init__(self, options: Options, schema: StructType) -> None:
        self._options = options
        self._schema = to_arrow_schema(schema)
        self._filters: list[ds.Filter] = []

    def partitions(self) -> Sequence[Part]:
        """Return parts of whole packs, each about as large as a task shall be."""
        with closing(_opened(self._options)) as dataset:
            manifest = _manifest(dataset)
            rows = np.flatnonzero(_wanted(manifest, self._options.path, self._filters))
            return _parts(dataset, rows, self._options.task_bytes)

    def read(self, partition: Part) -> Iterator[pa.RecordBatch]:
        """Yield a part's files by batches.

        Raises:
            Invalid: a file is larger than a value of Spark can be.
        """
        options, manifest = self._options, Manifest.parse(partition.manifest)
        dataset = Dataset.of_manifest(
            options.dataset, partition.version, manifest, project=options.project, access=options.access
        )
        with closing(dataset):
            for rows in _batches(manifest, contents="content" in self._schema.names):
                yield self._batch(dataset, manifest, rows)

    def _batch(self, dataset: Dataset, manifest: Manifest, rows: Sequence[int]) -> pa.RecordBatch:
        table = manifest.table.take(pa.array(rows))
        columns: dict[str, Callable[[], Any]] = {
            "path": lambda: table.column("path").combine_chunks(),
            "size": lambda: table.column("size").combine_chunks(),
            "blake3": lambda: pa.array([entry.hex for entry in manifest.take(rows)]),
            "content": lambda: pa.array(dataset.read_many(rows), pa.binary()),
        }
        return pa.RecordBatch.from_arrays(
            [columns[field.name]().cast(field.type) for field in self._schema], schema=self._schema
        )


class PushingFileReader(FileReader):
    """Applies filters to the manifest, so that nothing is fetched of files that nobody wants."""

    def pushFilters(self, filters: list[ds.Filter]) -> Iterable[ds.Filter]:  # noqa: N802 - Spark's own name
        """Keep what can be answered by the manifest, and give back the rest."""
        for item in filters:
            if _condition(item) is None:
                yield item
            else:
                self._filters.append(item)


class TableReader(ds.DataSourceReader):  # type: ignore[misc]
    """Tables of a version as rows: the columns that are wanted, by Arrow batches."""

    def __init__(self, options: Options, schema: StructType) -> None:
        self._options = options
        self._schema = to_arrow_schema(schema)

    def partitions(self) -> Sequence[Part]:
        """Return parts of neighbouring tables, each about as large as a task shall be."""
        with closing(_opened(self._options)) as dataset:
            meant = tables.matching(dataset.paths, self._options.table or "")
            rows = np.array([_manifest(dataset).find(path) for path in meant], dtype=np.int64)
            return _parts(dataset, rows, self._options.task_bytes)

    def read(self, partition: Part) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a part's tables."""
        options, manifest = self._options, Manifest.parse(partition.manifest)
        dataset = Dataset.of_manifest(
            options.dataset, partition.version, manifest, project=options.project, access=options.access
        )
        with closing(dataset):
            for path in manifest.paths:
                yield from tables.batches(dataset, path, self._schema)


def _opened(options: Options) -> Dataset:
    return Dataset.open(
        f"{options.dataset}@{options.version}",
        project=options.project,
        url=options.access.url,
        token_file=options.access.token_file,
    )


def _parts(dataset: Dataset, rows: Any, task_bytes: int) -> list[Part]:
    """Return the parts that tasks read; an empty one where nothing is meant, since Spark would make up one itself."""
    assert dataset.origin is not None  # noqa: S101 - it was opened by name
    manifest, version = _manifest(dataset), int(str(dataset.origin[0]).rpartition("@")[2])
    parts = list(_by_pack(manifest, rows, task_bytes)) or [[]]
    return [Part(version, subset(manifest, part).to_bytes()) for part in parts]


def _manifest(dataset: Dataset) -> Manifest:
    assert dataset.manifest is not None  # noqa: S101 - versions of the lake have one
    return dataset.manifest


def _wanted(manifest: Manifest, pattern: str | None, filters: Sequence[ds.Filter]) -> Any:
    """Return for each file whether it is meant."""
    keep = np.ones(len(manifest), dtype=bool)
    if pattern:
        keep &= np.fromiter((fnmatchcase(path, pattern) for path in manifest.paths), dtype=bool, count=len(manifest))
    for item in filters:
        condition = _condition(item)
        if condition is not None:
            keep &= np.asarray(condition(manifest.table).combine_chunks().to_numpy(zero_copy_only=False))
    return keep


def _condition(item: ds.Filter) -> Callable[[pa.Table], Any] | None:
    """Return a filter on path, size or blake3 as a question to a manifest; None where it is another."""
    if isinstance(item, ds.Not):
        inner = _condition(item.child)
        return None if inner is None else (lambda table: pc.invert(inner(table)))
    attribute = getattr(item, "attribute", None)
    if attribute == ("blake3",) and isinstance(item, ds.EqualTo) and isinstance(item.value, str):
        return _digest_is(item.value)
    if attribute == ("path",):
        return _about_path(item)
    if attribute == ("size",):
        return _about_size(item)
    return None


def _digest_is(text: str) -> Callable[[pa.Table], Any] | None:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    if len(digest) != 32 or digest.hex() != text:
        return None
    return lambda table: pc.equal(table.column("blake3"), pa.scalar(digest, pa.binary(32)))


def _about_path(item: ds.Filter) -> Callable[[pa.Table], Any] | None:
    if isinstance(item, ds.EqualTo):
        return lambda table: pc.equal(table.column("path"), item.value)
    if isinstance(item, ds.In):
        return lambda table: pc.is_in(table.column("path"), pa.array(item.value, pa.string()))
    asked = {
        ds.StringStartsWith: pc.starts_with,
        ds.StringEndsWith: pc.ends_with,
        ds.StringContains: pc.match_substring,
    }
    function = asked.get(type(item))
    return None if function is None else (lambda table: function(table.column("path"), item.value))


def _about_size(item: ds.Filter) -> Callable[[pa.Table], Any] | None:
    compared = {
        ds.EqualTo: pc.equal,
        ds.GreaterThan: pc.greater,
        ds.GreaterThanOrEqual: pc.greater_equal,
        ds.LessThan: pc.less,
        ds.LessThanOrEqual: pc.less_equal,
    }
    function = compared.get(type(item))
    return None if function is None else (lambda table: function(table.column("size"), item.value))


def _by_pack(manifest: Manifest, rows: Any, task_bytes: int) -> Iterator[list[int]]:
    """Yield the rows of whole packs, in the packs' order, until a task has enough; files without pack come last."""
    sizes = manifest.table.column("size").to_numpy()
    part: list[int] = []
    held, last = 0, -1
    for row, pack in _in_packs(manifest, rows):
        alone = pack == len(manifest.packs)
        if part and held >= task_bytes and (alone or pack != last):
            yield part
            part, held = [], 0
        part.append(row)
        held, last = held + int(sizes[row]), pack
    if part:
        yield part


def _in_packs(manifest: Manifest, rows: Any) -> Iterator[tuple[int, int]]:
    """Yield rows as their bytes lie, each with its pack; files without one come last, under a number after all."""
    packs = pc.fill_null(manifest.table.column("pack"), len(manifest.packs)).to_numpy()[rows]
    offsets = pc.fill_null(manifest.table.column("offset"), 0).to_numpy()[rows]
    order = np.lexsort((offsets, packs))
    return zip(rows[order].tolist(), packs[order].tolist(), strict=True)


def _batches(manifest: Manifest, *, contents: bool) -> Iterator[list[int]]:
    """Yield rows whose contents together fit into memory comfortably."""
    batch: list[int] = []
    held = 0
    sizes = manifest.table.column("size").to_numpy()
    for row, _ in _in_packs(manifest, np.arange(len(manifest))):
        size = int(sizes[row])
        if contents and size > MAX_CELL:
            raise Invalid(f"{manifest.entry(row).path!a} of {size} bytes is larger than a value of Spark can be")
        if batch and (len(batch) >= BATCH_FILES or (contents and held + size > BATCH_BYTES)):
            yield batch
            batch, held = [], 0
        batch.append(row)
        held += size
    if batch:
        yield batch
