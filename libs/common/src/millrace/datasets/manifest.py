"""The manifest: every file of a version, sorted by path, and where its bytes lie. An Arrow IPC stream, zstd inside.

Columns: `path` (NFC UTF-8), `blake3` (32 bytes), `size`, `mode` and `mtime_ns` (informative), `pack` (ordinal in
the table of packs, or null), `offset` in the pack, `chunks` (list of BLAKE3, or null). The table of packs (id, size)
lies in the schema's metadata. A file has either a place in a pack, or chunks, or no bytes at all.

`Manifest.parse` trusts nothing: it bounds what Arrow would allocate, then checks every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from millrace.datasets.arrow_stream import BATCH_ROWS, check_digest_of, digest_of, read_table, write_table
from millrace.datasets.manifest_checks import check_claims, check_table, schema_of, split_packs
from millrace.datasets.tree import table_root


@dataclass(frozen=True, slots=True)
class PackRef:
    """A pack that a manifest points into: id and size in bytes."""

    id: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `pack` is an ordinal in `Manifest.packs`; without it the bytes lie in `chunks`, or there are none."""

    path: str
    digest: bytes
    size: int
    mode: int
    mtime_ns: int
    pack: int | None
    offset: int
    chunks: tuple[bytes, ...] = ()

    @property
    def hex(self) -> str:
        """Return the BLAKE3 of the file's bytes in hex."""
        return self.digest.hex()


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """Paths that differ between two manifests, each sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class Manifest:
    """An immutable manifest in memory, about 120 bytes a file. Made by `parse` or by a `ManifestBuilder`."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.packs = tuple(PackRef(pack, size) for pack, size in split_packs(table.schema.metadata))

    @classmethod
    def parse(cls, data: bytes, *, expect: str | None = None) -> Manifest:
        """Return the manifest in `data`; `expect` is the id it was asked for by.

        Raises:
            Corrupt: the bytes do not have that id.
            Invalid: not a manifest, or one that breaks a rule (paths, order, sizes, places).
        """
        check_digest_of(data, expect, "manifest")
        check_claims(data)
        table = read_table(data, schema_of(None), "manifest")
        check_table(table)
        return cls(table)

    @cached_property
    def _bytes(self) -> bytes:
        return write_table(self.table)

    def to_bytes(self) -> bytes:
        """Return the stored form; equal rows give equal bytes under one Arrow version."""
        return self._bytes

    @cached_property
    def id(self) -> str:
        """Return the manifest's id: BLAKE3 of its bytes, hex."""
        return blake3(self._bytes).hexdigest() if "_bytes" in self.__dict__ else digest_of(self.table)

    @cached_property
    def tree_root(self) -> str:
        """Return the tree root, hex."""
        return table_root(self.table.to_batches(BATCH_ROWS))

    @property
    def files(self) -> int:
        """Return the number of files."""
        return int(self.table.num_rows)

    def __len__(self) -> int:
        return self.files

    @property
    def nbytes(self) -> int:
        """Return the memory that the table takes, in bytes."""
        return int(self.table.nbytes)

    @cached_property
    def bytes(self) -> int:
        """Return the sum of the files' sizes."""
        return int(pc.sum(self.table.column("size")).as_py() or 0)

    def entry(self, index: int) -> Entry:
        """Return the file at a position in path order."""
        if not 0 <= index < self.files:
            raise IndexError(index)
        return next(_entries(self.table.slice(index, 1)))

    def entries(self) -> Iterator[Entry]:
        """Yield all files in path order."""
        for start in range(0, self.files, BATCH_ROWS):
            yield from _entries(self.table.slice(start, BATCH_ROWS))

    def take(self, rows: Any) -> list[Entry]:
        """Return the files at these positions, in the order asked."""
        return list(_entries(self.table.take(pa.array(rows, pa.int64()))))

    @property
    def paths(self) -> list[str]:
        """Return all paths, sorted."""
        return list(self.table.column("path").to_pylist())

    def find(self, path: str) -> int | None:
        """Return the position of `path`, or None; a binary search."""
        column, low, high = self.table.column("path"), 0, self.files
        while low < high:
            middle = (low + high) // 2
            if column[middle].as_py() < path:
                low = middle + 1
            else:
                high = middle
        return low if low < self.files and column[low].as_py() == path else None

    def chunk_ids(self) -> set[str]:
        """Return the ids of all chunks, hex."""
        lists = self.table.column("chunks").drop_null().to_pylist()
        return {chunk.hex() for chunks in lists for chunk in chunks}

    def diff(self, newer: Manifest) -> ManifestDiff:
        """Return what `newer` adds, removes and changes, by content and not by mode or time."""
        old, new = self.table, newer.table
        there = pc.index_in(new.column("path"), value_set=old.column("path"))
        known = there.is_valid()
        before = old.column("blake3").take(there.filter(known))
        same = pc.equal(before, new.column("blake3").filter(known))
        kept = new.column("path").filter(known)
        gone = pc.invert(pc.is_in(old.column("path"), value_set=kept)) if len(kept) < old.num_rows else None
        return ManifestDiff(
            added=_listed(new.column("path").filter(pc.invert(known))),
            removed=() if gone is None else _listed(old.column("path").filter(gone)),
            changed=_listed(kept.filter(pc.invert(same))),
        )


def _listed(column: Any) -> tuple[str, ...]:
    return tuple(column.to_pylist())


def _entries(table: Any) -> Iterator[Entry]:
    columns = (table.column(name).to_pylist() for name in table.schema.names)
    for path, digest, size, mode, mtime_ns, pack, offset, chunks in zip(*columns, strict=True):
        yield Entry(path, digest, size, mode, mtime_ns, pack, offset or 0, tuple(chunks or ()))
