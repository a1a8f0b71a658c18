"""The table of a version's records, sorted by id. An Arrow IPC stream, zstd inside, named by the digest of its bytes.

Columns: `id`, `type`, `path` (null for groups), `size`, `blake3` (32 bytes), `media_type`, `source`, `references` (list
of role, link, blake3, size) and `metadata` (JSON text). `parse` trusts nothing: it bounds what Arrow would allocate,
then checks every row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from millrace.datasets.arrow_bounds import claimed
from millrace.datasets.arrow_stream import BATCH_ROWS, check_digest_of, read_table, write_table
from millrace.datasets.limits import MIB
from millrace.datasets.manifest import Manifest
from millrace.datasets.paths import printable
from millrace.errors import Invalid
from millrace.records.record import Record, Reference, check_record

FORMAT = b"millrace-records/1"
MAX_TABLE = 256 * MIB
"""Largest stored table."""

MAX_RAW = 1024 * MIB
MAX_RATIO = 400
"""Unpacked over stored bytes; tables of many equal images reach 100."""

MAX_RECORDS = 5_000_000
MAX_FIELDS = 200
"""Metadata fields that a summary lists for one type."""

_DIGEST = pa.binary(32)
_REFERENCE = pa.struct(
    [
        pa.field("role", pa.string(), nullable=False),
        pa.field("link", pa.string(), nullable=False),
        pa.field("blake3", _DIGEST, nullable=False),
        pa.field("size", pa.int64(), nullable=False),
    ]
)
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=True),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("blake3", _DIGEST, nullable=False),
        pa.field("media_type", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("references", pa.list_(pa.field("item", _REFERENCE, nullable=False)), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class TypeSummary:
    """How many records of a type there are, their bytes, and the names of their metadata fields."""

    type: str
    records: int
    bytes: int
    fields: tuple[str, ...]


class RecordTable:
    """An immutable table of records. Made by `of` or `parse`."""

    def __init__(self, table: Any) -> None:
        self.table = table

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordTable:
        """Return the table of these records, checked and sorted.

        Raises:
            Invalid: a record breaks a rule, or two share an id.
        """
        found = sorted(_checked(records), key=lambda record: record.id.encode())
        batches = [
            pa.RecordBatch.from_pylist([_row(item) for item in found[start : start + BATCH_ROWS]], schema=_SCHEMA)
            for start in range(0, len(found), BATCH_ROWS)
        ]
        table = cls(pa.Table.from_batches(batches, schema=_SCHEMA.with_metadata({b"millrace": FORMAT})))
        table._check_shape()
        return table

    @classmethod
    def parse(cls, data: bytes, *, expect: str | None = None) -> RecordTable:
        """Return the table in `data`; `expect` is the digest it was asked for by.

        Raises:
            Corrupt: the bytes do not have that digest.
            Invalid: not a table of records, or one that breaks a rule.
        """
        check_digest_of(data, expect, "table of records")
        _check_claims(data)
        table = read_table(data, _SCHEMA, "table of records")
        if (table.schema.metadata or {}).get(b"millrace") != FORMAT:
            raise Invalid("not a table of records of a known version")
        found = cls(table)
        found._check_shape()
        for record in found.records():
            check_record(record)
        return found

    @cached_property
    def _bytes(self) -> bytes:
        return write_table(self.table)

    def to_bytes(self) -> bytes:
        """Return the stored form; equal records give equal bytes under one Arrow version."""
        return self._bytes

    @cached_property
    def id(self) -> str:
        """Return the table's id: BLAKE3 of its bytes, hex."""
        return blake3(self._bytes).hexdigest()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def records(self) -> Iterator[Record]:
        """Yield all records, sorted by id."""
        for start in range(0, len(self), BATCH_ROWS):
            yield from map(_record, self.table.slice(start, BATCH_ROWS).to_pylist())

    def page(
        self, *, kind: str | None = None, path: str = "", start: int = 0, limit: int = 100
    ) -> tuple[list[Record], int | None]:
        """Return records from position `start` on, and the position to go on at (None: there are no more).

        Only those of a type, and with ids that begin with `path`, where these are given.
        """
        rest = self.table.slice(start)
        mask = pc.starts_with(rest.column("id"), path)
        if kind is not None:
            mask = pc.and_(mask, pc.equal(rest.column("type"), kind))
        places = pc.indices_nonzero(mask)[: limit + 1].to_pylist()
        found = rest.take(pa.array(places[:limit], pa.int64())).to_pylist()
        return list(map(_record, found)), start + places[limit] if len(places) > limit else None

    def summary(self) -> list[TypeSummary]:
        """Return counts, bytes and metadata fields by type, the most frequent type first."""
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        fields: dict[str, dict[str, None]] = {}
        columns = (self.table.column(name) for name in ("type", "size", "metadata"))
        for kind, size, text in zip(*(column.to_pylist() for column in columns), strict=True):
            counts[kind] += 1
            sizes[kind] += size
            seen = fields.setdefault(kind, {})
            if len(seen) < MAX_FIELDS:
                seen.update(dict.fromkeys(json.loads(text)))
        return [
            TypeSummary(kind, count, sizes[kind], tuple(sorted(fields[kind])[:MAX_FIELDS]))
            for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def check_against(self, manifest: Manifest) -> None:
        """Check that each file's record is about a file of the version.

        Raises:
            Invalid: it names another path, or another digest or size than the manifest does.
        """
        mine = self.table.filter(pc.is_valid(self.table.column("path")))
        where = pc.index_in(mine.column("path"), value_set=manifest.table.column("path").combine_chunks())
        if where.null_count:
            stranger = mine.column("path").filter(pc.is_null(where))[0].as_py()
            raise Invalid(f"a record is about {printable(stranger)}, which the version does not hold")
        theirs = manifest.table.select(["blake3", "size"]).take(where.combine_chunks())
        for name in ("blake3", "size"):
            same = pc.equal(mine.column(name), theirs.column(name))
            if len(mine) and not pc.all(same).as_py():
                wrong = mine.column("path").filter(pc.invert(same))[0].as_py()
                raise Invalid(f"the record of {printable(wrong)} has another digest or size than the manifest")

    def _check_shape(self) -> None:
        if len(self) > MAX_RECORDS:
            raise Invalid(f"a version has at most {MAX_RECORDS} records")
        for field in _SCHEMA:
            if not field.nullable and self.table.column(field.name).null_count:
                raise Invalid(f"the table of records has empty cells in column {field.name}")
        ids = self.table.column("id").combine_chunks()
        if len(ids) > 1 and not pc.all(pc.less(ids[:-1], ids[1:])).as_py():
            raise Invalid("records are not strictly sorted by id")


def _checked(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        check_record(record)
        yield record


def _check_claims(data: bytes) -> None:
    if len(data) > MAX_TABLE:
        raise Invalid(f"a table of records of {len(data)} bytes exceeds {MAX_TABLE}")
    rows, raw = claimed(data)
    if rows > MAX_RECORDS or raw > MAX_RAW or raw > MIB + MAX_RATIO * len(data):
        raise Invalid(f"the table of records claims {rows} rows and {raw} bytes, which is absurd for {len(data)}")


def _row(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "type": record.type,
        "path": record.path,
        "size": record.size,
        "blake3": bytes.fromhex(record.digest),
        "media_type": record.media_type,
        "source": record.source,
        "references": [
            {"role": item.role, "link": item.link, "blake3": bytes.fromhex(item.digest), "size": item.size}
            for item in record.references
        ],
        "metadata": record.metadata,
    }


def _record(row: dict[str, Any]) -> Record:
    references = tuple(
        Reference(item["role"], item["link"], item["blake3"].hex(), item["size"]) for item in row["references"]
    )
    return Record(
        row["id"],
        row["type"],
        row["path"],
        row["size"],
        row["blake3"].hex(),
        row["media_type"],
        row["source"],
        references,
        row["metadata"],
    )
