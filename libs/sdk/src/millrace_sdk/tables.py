"""Tables among a version's files: Parquet, CSV and TSV, read by Arrow and written as Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.errors import Invalid, NotFound

if TYPE_CHECKING:
    from millrace.datasets.readers import Dataset

ENDINGS = (".parquet", ".csv", ".tsv")
BLOCK_BYTES = 4 * 1024 * 1024
"""What a Parquet file is read by, and the size of a batch of a CSV file."""


def matching(paths: Sequence[str], pattern: str) -> list[str]:
    """Return the tables among `paths` that a pattern of the shell means (`*` crosses folders), sorted.

    Raises:
        NotFound: none does.
        Invalid: a file that is meant is no table.
    """
    found = sorted(path for path in paths if fnmatchcase(path, pattern))
    if not found:
        raise NotFound(f"the version has no {pattern!a}")
    for path in found:
        if not path.lower().endswith(ENDINGS):
            raise Invalid(f"{path!a} is no table", hint=f"tables end with {', '.join(ENDINGS)}")
    return found


def schema_of(dataset: Dataset, path: str) -> pa.Schema:
    """Return the columns of a table and their types; those of a CSV file are guessed from its first block.

    Raises:
        Invalid: it cannot be read.
    """
    with _explained(path):
        return _parquet(dataset, path).schema_arrow if _is_parquet(path) else _text(dataset, path, None).schema


def batches(dataset: Dataset, path: str, schema: pa.Schema | None = None) -> Iterator[pa.RecordBatch]:
    """Yield a table by batches: all of it, or the columns of `schema` in its types.

    Raises:
        Invalid: it cannot be read, lacks a column, or holds values of another type.
    """
    with _explained(path):
        if not _is_parquet(path):
            found = iter(_text(dataset, path, schema))
        else:
            names = None if schema is None else schema.names
            file = _parquet(dataset, path)
            _all_there(names or (), file.schema_arrow.names, path)
            found = file.iter_batches(columns=names)
        for batch in found:
            yield batch if schema is None else _cast(batch, schema)


def read(dataset: Dataset, pattern: str) -> pa.Table:
    """Return the tables that a pattern means, one below the other.

    Raises:
        NotFound, Invalid: there are none, or they cannot be read together.
    """
    paths = matching(dataset.paths, pattern)
    schema = schema_of(dataset, paths[0])
    return pa.Table.from_batches((batch for path in paths for batch in batches(dataset, path, schema)), schema)


def parquet(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


class RangeFile(io.RawIOBase):
    """A file of a version, read by ranges: a column of a large Parquet file does not cost the whole file."""

    def __init__(self, dataset: Dataset, path: str, size: int) -> None:
        super().__init__()
        self._dataset, self._path, self._size, self._at = dataset, path, size, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read on."""
        view = memoryview(buffer).cast("B")
        data = self._dataset.read_range(self._path, self._at, len(view)) if self._at < self._size else b""
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Say which table it was that Arrow could not read."""
    try:
        yield
    except (pa.ArrowException, ValueError) as error:
        raise Invalid(f"the table {path!a} cannot be read so: {error}") from None


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _parquet(dataset: Dataset, path: str) -> Any:
    import pyarrow.parquet as pq

    assert dataset.manifest is not None  # noqa: S101 - versions of the lake have one
    row = dataset.manifest.find(path)
    if row is None:
        raise NotFound(f"the version has no {path!a}")
    file = io.BufferedReader(RangeFile(dataset, path, dataset.manifest.entry(row).size), BLOCK_BYTES)
    return pq.ParquetFile(file)


def _text(dataset: Dataset, path: str, schema: pa.Schema | None) -> Any:
    from pyarrow import csv

    convert = csv.ConvertOptions()
    if schema is not None:
        convert = csv.ConvertOptions(include_columns=schema.names, column_types=schema)
    return csv.open_csv(
        io.BytesIO(dataset.read(path)),
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter="\t" if path.lower().endswith(".tsv") else ","),
        convert_options=convert,
    )


def _all_there(wanted: Sequence[str], there: Sequence[str], path: str) -> None:
    if missing := [name for name in wanted if name not in there]:
        raise Invalid(f"the table {path!a} has no column {missing[0]!a}")


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(field.name).cast(field.type) for field in schema], schema=schema)
