"""Writing from Spark: each task sends its files, and the driver commits them as one version, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import datasource as ds
from pyspark.sql.types import BinaryType, StringType

from millrace.clock import new_id
from millrace.datasets.manifest import Manifest
from millrace.datasets.push import push_part
from millrace.datasets.sources import SourceFile
from millrace.errors import Invalid
from millrace_sdk import tables
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.committing import Change, commit_parts, ensure_dataset
from millrace_sdk.gateway_store import GatewayStore

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

    from millrace_sdk.integrations.spark_options import Options

T = TypeVar("T")
PART_BYTES = 128 * 1024 * 1024
"""A task begins another part of a table once one holds so much, in memory as Arrow."""


@dataclass
class Sent(ds.WriterCommitMessage):  # type: ignore[misc]
    """What one task has sent: the manifest of its files."""

    manifest: bytes


def writer(options: Options, schema: StructType, *, overwrite: bool, application: str | None) -> Any:
    """Return what writes rows: as a table's parts where a table is named, else each row as a file.

    Raises:
        Invalid: rows that are no files, or options that say nothing about writing.
    """
    if options.path is not None:
        raise Invalid("save() takes no path", hint='.option("dataset", …), and .option("table", FOLDER) for a table')
    run = {"run": f"spark:{application}"} if application else {}
    change = Change("replace" if overwrite else "append", options.message, {"source": "spark", **run})
    if options.table is not None:
        return TableWriter(options, change)
    columns = {field.name: field.dataType for field in schema}
    if (columns.get("path"), columns.get("content")) != (StringType(), BinaryType()):
        raise Invalid("rows are files by their columns path (string) and content (binary)", hint="or name a table")
    return FileWriter(options, change)


class FileWriter(ds.DataSourceArrowWriter):  # type: ignore[misc]
    """Rows are files: `path` and `content`; further columns are left out."""

    def __init__(self, options: Options, change: Change) -> None:
        self._options, self._change = options, change

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Sent:
        """Send one task's files.

        Raises:
            Refused: paths that cannot be.
        """
        return asyncio.run(self._send(iterator))

    async def _send(self, batches: Iterator[pa.RecordBatch]) -> Sent:
        async with self._catalog() as catalog:
            await ensure_dataset(catalog, self._options.dataset)
            store = GatewayStore(catalog, self._options.dataset)
            try:
                part = await push_part(_stream(partial(self._files, batches)), store, project=self._options.project)
            finally:
                await store.aclose()
        return Sent(part.manifest.to_bytes())

    def _files(self, batches: Iterator[pa.RecordBatch]) -> Iterator[SourceFile]:
        for batch in batches:
            for path, content in zip(batch.column("path"), batch.column("content"), strict=True):
                if not path.is_valid or not content.is_valid:
                    raise Invalid("a file's path and content are never null")
                yield SourceFile.of_bytes(path.as_py(), content.as_py())

    def commit(self, messages: Sequence[ds.WriterCommitMessage | None]) -> None:
        """Commit what all tasks have sent as one version.

        Raises:
            Refused: paths of two tasks are the same, or clash.
            Conflict: others commit all the time.
        """
        parts = [Manifest.parse(sent.manifest) for sent in messages if isinstance(sent, Sent)]

        async def main() -> None:
            async with self._catalog() as catalog:
                await ensure_dataset(catalog, self._options.dataset)
                await commit_parts(catalog, self._options.dataset, parts, self._change)

        asyncio.run(main())

    def abort(self, messages: Sequence[ds.WriterCommitMessage | None]) -> None:
        """Commit nothing. What was sent is named by its content, belongs to no version, and is collected one day."""

    def _catalog(self) -> AsyncCatalog:
        return AsyncCatalog.of(self._options.access, project=self._options.project)


class TableWriter(FileWriter):
    """Rows are a table: each task writes Parquet parts below the folder that the option `table` names.

    Parts that are put on top of others have names of their own; else the same rows make the same version.
    """

    def __init__(self, options: Options, change: Change) -> None:
        super().__init__(options, change)
        self._mark = f"-{new_id()}" if change.mode == "append" else ""

    def _files(self, batches: Iterator[pa.RecordBatch]) -> Iterator[SourceFile]:
        context = TaskContext.get()
        task = context.partitionId() if context is not None else 0
        for number, table in enumerate(_parts(batches)):
            path = f"{self._options.table}/part-{task:05d}-{number:04d}{self._mark}.parquet"
            yield SourceFile.of_bytes(path, tables.parquet(table))


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
        if sum(one.nbytes for one in held) >= PART_BYTES:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


async def _stream(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Iterate in a thread, so that files are sent while Spark makes the next rows."""
    iterator, end = make(), object()
    while (item := await asyncio.to_thread(next, iterator, end)) is not end:
        yield item  # type: ignore[misc]
