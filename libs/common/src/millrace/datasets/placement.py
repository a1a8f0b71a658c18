"""Where each file of a folder lies in the lake: in packs of the parent, in packs of this push, in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.datasets.builder import NO_PACK, Columns, assemble
from millrace.datasets.known import KnownBlobs, digests_of, heads_of
from millrace.datasets.manifest import Manifest, PackRef
from millrace.datasets.scan import Listing


class Placement:
    """Columns by position in the listing; every method takes and gives positions as numpy arrays."""

    def __init__(self, files: Listing, known: KnownBlobs) -> None:
        self.digests = np.zeros((len(files), 32), dtype=np.uint8)
        self._files, self._known = files, known
        self._sizes = files.column("sizes")
        self._packs = np.full(len(files), NO_PACK, dtype=np.int32)
        self._offsets = np.zeros(len(files), dtype=np.int64)
        self._chunks: dict[int, tuple[bytes, ...]] = {}
        self._refs: list[PackRef | None] = []
        self._of_parent: dict[int, int] = {}
        self._heads = np.empty(0, dtype=np.uint64)
        self._first = np.empty(0, dtype=np.int64)

    def reuse(self, indices: Any) -> Any:
        """Place the files whose bytes the parent has; return a mask of them."""
        rows = self._known.rows(self.digests[indices], self._sizes[indices])
        found = rows >= 0
        if found.any():
            self._at_parent(indices[found], rows[found])
        return found

    def _at_parent(self, indices: Any, rows: Any) -> None:
        refs, packs, offsets = self._known.places
        theirs = packs[rows]
        renumber = np.full(len(refs) + 1, NO_PACK, dtype=np.int32)
        for ordinal in np.unique(theirs[theirs >= 0]).tolist():
            if ordinal not in self._of_parent:
                self._of_parent[ordinal] = self.new_pack(refs[ordinal])
            renumber[ordinal] = self._of_parent[ordinal]
        self._packs[indices] = renumber[theirs]
        self._offsets[indices] = np.where(theirs >= 0, offsets[rows], 0)
        for index, row in zip(indices[theirs < 0].tolist(), rows[theirs < 0].tolist(), strict=True):
            self._chunks[index] = self._known.chunks_at(row)

    def first_of_each(self, indices: Any) -> Any:
        """Return a mask of the blobs that no pack of this push has yet, each only where it comes first."""
        fresh = self._placed_like(indices) < 0
        heads = heads_of(self.digests[indices])
        _, first, which = np.unique(heads, return_index=True, return_inverse=True)
        twin = first[which]
        repeated = twin != np.arange(len(indices))
        repeated &= (self.digests[indices[twin]] == self.digests[indices]).all(axis=1)
        return fresh & ~repeated

    def _placed_like(self, indices: Any) -> Any:
        """Return for each file a file with the same bytes that lies in a pack of this push, or -1."""
        if not len(self._heads):
            return np.full(len(indices), -1, dtype=np.int64)
        where = np.minimum(np.searchsorted(self._heads, heads_of(self.digests[indices])), len(self._heads) - 1)
        found = self._first[where]
        return np.where((self.digests[found] == self.digests[indices]).all(axis=1), found, -1)

    def new_pack(self, ref: PackRef | None) -> int:
        """Return the ordinal of a pack; one without a name yet gets it by `name_pack`."""
        self._refs.append(ref)
        return len(self._refs) - 1

    def name_pack(self, ordinal: int, ref: PackRef) -> None:
        """Say which pack an ordinal became."""
        self._refs[ordinal] = ref

    def in_pack(self, indices: Any, ordinal: int, offsets: Any) -> None:
        """Place files in a pack of this push."""
        self._packs[indices], self._offsets[indices] = ordinal, offsets
        heads = np.concatenate([self._heads, heads_of(self.digests[indices])])
        order = np.argsort(heads, kind="stable")
        self._heads, self._first = heads[order], np.concatenate([self._first, indices])[order]

    def like_others(self, indices: Any) -> None:
        """Place files whose blobs are in packs of this push already."""
        first = self._placed_like(indices)
        self._packs[indices], self._offsets[indices] = self._packs[first], self._offsets[first]

    def in_chunks(self, index: int, digest: bytes, chunks: list[bytes]) -> None:
        """Place a large file."""
        self.digests[index] = np.frombuffer(digest, dtype=np.uint8)
        self._chunks[index] = tuple(chunks)

    def manifest(self, parent: Manifest | None) -> Manifest:
        """Return the manifest of the folder: the parent itself where nothing differs from it."""
        columns = Columns(
            paths=self._files.paths,
            digests=self.digests,
            sizes=self._sizes,
            modes=self._files.column("modes"),
            mtimes=self._files.column("mtimes"),
            packs=self._packs,
            offsets=self._offsets,
            chunks=self._chunks,
        )
        if parent is not None and parent.files == len(self._files) and _same(columns, parent):
            return parent
        return assemble(columns, self._refs)


def _same(columns: Columns, parent: Manifest) -> bool:
    """Return whether paths and digests are the parent's."""
    order = pc.array_sort_indices(columns.paths)
    held = parent.table.column("path").combine_chunks().cast(pa.large_string())
    return bool(columns.paths.take(order).equals(held)) and bool(
        np.array_equal(columns.digests[order.to_numpy()], digests_of(parent.table))
    )
