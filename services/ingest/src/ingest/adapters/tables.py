"""CSV and Parquet as columns: schema and a summary of each column, read as a stream in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ingest.adapters.columns import Column
from ingest.errors import ContentRefused
from millrace.errors import Invalid
from millrace.records import metadata_text

MAX_COLUMNS = 2_000
MAX_NAME = 256
BATCH_ROWS = 8_192
MAX_CELLS = 200_000_000
"""Cells that a summary looks at; a larger table's is made from its first rows, and says so."""

MAX_GROUP = 4 * 1024**3
"""Unpacked bytes that a row group of a Parquet file may say it has."""

_BLOCK = 1 << 20


def csv_facts(file: IO[bytes], *, delimiter: str) -> str | None:
    """Return a CSV file's metadata, or None where it is no table after all.

    A column whose first rows are numbers and later ones are not is read again as texts.
    """
    names: list[str] = []
    for kinds in (False, True):
        file.seek(0)
        texts = {name: pa.string() for name in names} if kinds else None
        try:
            with pyarrow.csv.open_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=False),
                convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, column_types=texts),
            ) as reader:
                names = list(reader.schema.names)
                return _summary(reader.schema, iter(reader), rows=None)
        except (pa.ArrowException, ValueError, Invalid):
            if not names:
                return None
    return None


def parquet_facts(file: IO[bytes]) -> str:
    """Return a Parquet file's metadata.

    Raises:
        ContentRefused: it is broken, or claims absurd sizes.
    """
    try:
        found = pq.ParquetFile(file, thrift_string_size_limit=1 << 24, thrift_container_size_limit=1 << 20)
        meta, schema = found.metadata, found.schema_arrow
        _check_groups(meta)
        texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
        reader = pq.ParquetFile(file, metadata=meta, read_dictionary=texts)
        return _summary(schema, reader.iter_batches(batch_size=BATCH_ROWS, use_threads=False), rows=int(meta.num_rows))
    except ContentRefused:
        raise
    except (pa.ArrowException, ValueError, OSError, OverflowError, MemoryError, Invalid) as error:
        raise ContentRefused(f"the Parquet file cannot be read ({type(error).__name__})") from None


def _check_groups(meta: Any) -> None:
    if any(meta.row_group(index).total_byte_size > MAX_GROUP for index in range(meta.num_row_groups)):
        raise ContentRefused("a row group of the Parquet file claims an absurd size")


def _summary(schema: Any, batches: Iterator[Any], *, rows: int | None) -> str:
    if len(schema) > MAX_COLUMNS:
        raise ContentRefused(f"a table has more than {MAX_COLUMNS} columns")
    columns = [Column(field.name[:MAX_NAME], field.type) for field in schema]
    seen = cells = 0
    partial = False
    for batch in batches:
        for column, array in zip(columns, batch.columns, strict=True):
            column.take(array)
        seen += batch.num_rows
        cells += batch.num_rows * max(1, len(columns))
        if cells > MAX_CELLS:
            partial = True
            break
    facts: dict[str, Any] = {"rows": seen if rows is None else rows, "column_count": len(columns)}
    if partial:
        facts |= {"summary_rows": seen}
        if rows is None:
            del facts["rows"]
    return _fitting(facts, columns)


def _fitting(facts: dict[str, Any], columns: list[Column]) -> str:
    """Return the metadata with as much of the columns as a record holds: histograms go first, then the last columns."""
    for histogram, share in ((True, 1), (False, 1), (False, 4), (False, 16), (False, 64)):
        shown = columns[: max(1, len(columns) // share)] if columns else []
        try:
            return metadata_text(facts | {"columns": [column.facts(histogram=histogram) for column in shown]})
        except Invalid:
            continue
    return metadata_text(facts)
