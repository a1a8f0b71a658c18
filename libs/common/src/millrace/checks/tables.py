"""Rules about the cells of a CSV, TSV or Parquet file, read as a stream of batches in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from blake3 import blake3

from millrace.checks.document import ColumnRule, TableRule
from millrace.checks.verdict import SHOWN, outside
from millrace.errors import Invalid

BATCH_ROWS = 65_536
BLOCK = 1 << 20
MAX_COLUMNS = 10_000
MAX_UNIQUE = 20_000_000
"""Rows of a column whose values are compared with each other; 8 bytes each."""

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")

TEXTS = {
    "integer": r"^\s*[+-]?[0-9]+\s*$",
    "number": r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$",
    "boolean": r"^\s*(?i:true|false|0|1|yes|no)\s*$",
    "date": r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+([Zz]|[+-][0-9:]+)?)?\s*$",
}

Found = Iterator[tuple[str, tuple[str, ...]]]


def is_table(path: str) -> bool:
    """Return whether a file's name says that it is a table."""
    return path.lower().endswith((*DELIMITERS, *PARQUET))


def check_table(rule: TableRule, path: Path) -> Found:
    """Yield what is wrong with the table at `path`, whose name in the version is the rule's.

    Raises:
        Invalid: it is no table.
        MemoryError: this process may not have as much as it takes.
    """
    try:
        names, batches = _open(rule.file.lower(), path)
        yield from _check(rule, names, batches)
    except pa.ArrowException as error:
        if type(error) in {pa.ArrowException, pa.ArrowMemoryError}:  # a limit of the process, not of the file
            raise MemoryError from error
        raise Invalid(f"{rule.file} is no table: {type(error).__name__}") from None
    except (OSError, ValueError, UnicodeError) as error:
        raise Invalid(f"{rule.file} is no table: {type(error).__name__}") from None


def _open(name: str, path: Path) -> tuple[list[str], Iterator[Any]]:
    if name.endswith(PARQUET):
        file = pq.ParquetFile(path, thrift_string_size_limit=1 << 24, thrift_container_size_limit=1 << 20)
        return list(file.schema_arrow.names), file.iter_batches(BATCH_ROWS)
    delimiter = next((sign for ending, sign in DELIMITERS.items() if name.endswith(ending)), None)
    if delimiter is None:
        raise Invalid(f"a table is a file named {', '.join((*DELIMITERS, *PARQUET))}")
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False)
    with pyarrow.csv.open_csv(path, read_options=read, parse_options=parse) as reader:
        names = list(reader.schema.names)
    if len(names) > MAX_COLUMNS:
        raise Invalid(f"a table of {len(names)} columns")
    texts = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return names, pyarrow.csv.open_csv(path, read_options=read, parse_options=parse, convert_options=texts)


def _check(rule: TableRule, names: list[str], batches: Iterator[Any]) -> Found:
    columns = {name: _Column(name, wanted) for name, wanted in rule.columns.items() if name in names}
    yield from ((f"no column {name!r}", ()) for name in rule.columns if name not in names)
    extra = [name for name in names if name not in rule.columns]
    if rule.only and extra:
        yield f"{len(extra)} columns that the check does not know", tuple(repr(name) for name in extra[:SHOWN])
    if len(set(names)) != len(names):
        yield "two columns have one name", ()
        return
    rows = 0
    for batch in batches:
        for name, column in columns.items():
            column.see(batch.column(names.index(name)), rows)
        rows += batch.num_rows
    if rule.rows is not None and (problem := outside(rows, rule.rows.min, rule.rows.max)):
        yield f"{rows} rows, {problem}", ()
    for column in columns.values():
        yield from column.found(rows)


class _Column:
    """Watches one column go by. Rows are counted from 1, without the header."""

    def __init__(self, name: str, rule: ColumnRule) -> None:
        self._name, self._rule = name, rule
        self._nulls = 0
        self._bad: dict[str, tuple[int, list[int]]] = {}
        self._seen: list[Any] = []
        self._values = None if rule.values is None else pa.array([_text(value) for value in rule.values], pa.string())

    def see(self, values: Any, before: int) -> None:
        """Look at one batch, `before` rows of which came earlier."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        there = values.is_valid().to_numpy(zero_copy_only=False)
        self._nulls += len(values) - int(there.sum())
        if self._rule.type is not None:
            self._note(f"not of type {self._rule.type}", there & ~_of_type(values, self._rule.type), before)
        if self._rule.min is not None or self._rule.max is not None:
            self._see_range(values, there, before)
        if self._values is not None:
            known = pc.is_in(_texts(values), value_set=self._values).to_numpy(zero_copy_only=False)
            self._note("not an allowed value", there & ~known, before)
        if self._rule.unique and before < MAX_UNIQUE:
            self._seen.append(_hashes(values, there))

    def _see_range(self, values: Any, there: Any, before: int) -> None:
        numbers, readable = _numbers(values)
        self._note("not a number", there & ~readable, before)
        for bound, word in ((self._rule.min, "less than"), (self._rule.max, "more than")):
            if bound is not None:
                wrong = numbers < bound if word == "less than" else numbers > bound
                self._note(f"{word} {bound:g}", there & readable & wrong, before)

    def _note(self, what: str, mask: Any, before: int) -> None:
        rows = np.flatnonzero(mask)
        if len(rows):
            count, places = self._bad.get(what, (0, []))
            room = SHOWN - len(places)
            self._bad[what] = (count + len(rows), places + [int(row) + 1 + before for row in rows[:room]])

    def found(self, rows: int) -> Found:
        """Yield what was wrong, once all rows went by."""
        for what, (count, places) in self._bad.items():
            yield f"column {self._name!r}: {count} cells {what}", tuple(f"row {place}" for place in places)
        share = self._nulls / rows if rows else 0.0
        if self._rule.nulls is not None and share > self._rule.nulls:
            yield f"column {self._name!r}: {self._nulls} of {rows} cells are empty", ()
        if self._rule.unique:
            if rows > MAX_UNIQUE:
                yield f"column {self._name!r}: more than {MAX_UNIQUE} rows cannot be compared with each other", ()
            elif self._seen:
                seen = np.concatenate(self._seen)
                if repeated := len(seen) - len(np.unique(seen)):
                    yield f"column {self._name!r}: {repeated} values are repeated", ()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _texts(values: Any) -> Any:
    return values if pa.types.is_string(values.type) else pc.cast(values, pa.string(), safe=False)


def _of_type(values: Any, wanted: str) -> Any:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if wanted == "text":
            return np.ones(len(values), dtype=bool)
        found = pc.fill_null(pc.match_substring_regex(values, TEXTS[wanted]), False)
        return found.to_numpy(zero_copy_only=False)
    fits = {
        "integer": pa.types.is_integer(kind),
        "number": pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "boolean": pa.types.is_boolean(kind),
        "date": pa.types.is_date(kind) or pa.types.is_timestamp(kind),
        "text": False,
    }
    return np.full(len(values), fits[wanted], dtype=bool)


def _numbers(values: Any) -> tuple[Any, Any]:
    """Return the cells as floats, and which of them are numbers."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        good = pc.fill_null(pc.match_substring_regex(values, TEXTS["number"]), False)
        values = pc.cast(pc.utf8_trim_whitespace(pc.if_else(good, values, None)), pa.float64())
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        values = pc.cast(values, pa.float64(), safe=False)
    else:
        return np.zeros(len(values)), np.zeros(len(values), dtype=bool)
    numbers = values.to_numpy(zero_copy_only=False)
    return np.nan_to_num(numbers), values.is_valid().to_numpy(zero_copy_only=False) & ~np.isnan(numbers)


def _hashes(values: Any, there: Any) -> Any:
    """Return 64-bit digests of the cells that are there. Two of 20 million collide with a chance of 1 in 90,000."""
    cells = zip(_texts(values).to_pylist(), there.tolist(), strict=True)
    digests = (blake3(text.encode()).digest()[:8] for text, is_there in cells if is_there)
    return np.frombuffer(b"".join(digests), dtype="<u8")
