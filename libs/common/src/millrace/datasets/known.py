"""Which blobs the lake has already, as far as a parent manifest tells. Deduplication never crosses projects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.datasets.manifest import Manifest, PackRef

BLOCK = 65_536
"""Digests that are compared at once, which bounds memory."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a file's bytes lie: a pack and an offset, or chunks."""

    pack: PackRef | None
    offset: int
    chunks: tuple[bytes, ...]


class KnownBlobs:
    """Looks digests up in a manifest: its columns, sorted by the first 8 bytes of the digest when first asked."""

    def __init__(self, manifest: Manifest | None) -> None:
        self._manifest = manifest if manifest is not None and manifest.files else None

    @cached_property
    def chunks(self) -> set[bytes]:
        """Return the digests of all chunks."""
        return set() if self._manifest is None else {bytes.fromhex(chunk) for chunk in self._manifest.chunk_ids()}

    @cached_property
    def _index(self) -> tuple[Any, Any, Any, Any]:
        """Return digests (n, 32), sizes, the sorted heads of the digests, and the order that sorts them."""
        assert self._manifest is not None  # noqa: S101 - asked only where there is one
        digests = digests_of(self._manifest.table)
        heads = heads_of(digests)
        order = np.argsort(heads, kind="stable")
        return digests, self._manifest.table.column("size").to_numpy(), heads[order], order

    def rows(self, digests: Any, sizes: Any) -> Any:
        """Return for each of (n, 32) digests with their sizes the row of the manifest that has it, or -1."""
        if self._manifest is None or not len(digests):
            return np.full(len(digests), -1, dtype=np.int64)
        held, held_sizes, heads, order = self._index
        rows = np.empty(len(digests), dtype=np.int64)
        for start in range(0, len(digests), BLOCK):
            block = slice(start, start + BLOCK)
            found = order[np.minimum(np.searchsorted(heads, heads_of(digests[block])), len(order) - 1)]
            same = (held[found] == digests[block]).all(axis=1) & (held_sizes[found] == sizes[block])
            rows[block] = np.where(same, found, -1)
        return rows

    @cached_property
    def places(self) -> tuple[tuple[PackRef, ...], Any, Any]:
        """Return the manifest's packs, and by row the ordinal (-1: none) and offset."""
        assert self._manifest is not None  # noqa: S101 - asked only for rows that were found
        table = self._manifest.table
        packs = pc.fill_null(table.column("pack"), -1).to_numpy()
        return self._manifest.packs, packs, pc.fill_null(table.column("offset"), 0).to_numpy()

    def chunks_at(self, row: int) -> tuple[bytes, ...]:
        """Return the chunks of a row."""
        assert self._manifest is not None  # noqa: S101 - asked only for rows that were found
        return self._manifest.entry(row).chunks

    def find(self, digest: bytes, size: int) -> Location | None:
        """Return where the bytes with this digest and size lie, if the manifest has them."""
        row = int(self.rows(np.frombuffer(digest, dtype=np.uint8).reshape(1, 32), np.array([size]))[0])
        if row < 0:
            return None
        refs, packs, offsets = self.places
        pack = int(packs[row])
        return Location(None, 0, self.chunks_at(row)) if pack < 0 else Location(refs[pack], int(offsets[row]), ())


def heads_of(digests: Any) -> Any:
    """Return the first 8 bytes of (n, 32) digests as numbers: enough to find a digest, not to know it."""
    return np.ascontiguousarray(digests[:, :8]).view("<u8").ravel()


def digests_of(table: Any) -> Any:
    """Return the digests of a manifest's table as (files, 32) bytes that share its memory where they can."""
    column = table.column("blake3").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if not len(column):
        return np.empty((0, 32), np.uint8)
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return data[column.offset * 32 : (column.offset + len(column)) * 32].reshape(-1, 32)
