"""Which blobs the lake has already, as far as a parent manifest tells. Deduplication never crosses projects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.datasets.manifest import Manifest, PackRef


@dataclass(frozen=True, slots=True)
class Location:
    """Where a file's bytes lie: a pack and an offset, or chunks."""

    pack: PackRef | None
    offset: int
    chunks: tuple[bytes, ...]


class KnownBlobs:
    """Looks digests up in a manifest: columns of numbers and a dictionary from 8 bytes of digest to row."""

    def __init__(self, manifest: Manifest | None) -> None:
        self.chunks: set[bytes] = set()
        self._rows: dict[int, int] = {}
        if manifest is None or not manifest.files:
            return
        self._manifest = manifest
        self._digests = _digests(manifest.table)
        heads = np.ascontiguousarray(self._digests.reshape(-1, 32)[:, :8]).view("<u8").ravel()
        self._rows = dict(zip(heads.tolist(), range(manifest.files), strict=True))
        self._sizes = manifest.table.column("size").to_numpy()
        self._packs = pc.fill_null(manifest.table.column("pack"), -1).to_numpy()
        self._offsets = pc.fill_null(manifest.table.column("offset"), 0).to_numpy()
        self.chunks = {bytes.fromhex(chunk) for chunk in manifest.chunk_ids()}

    def find(self, digest: bytes, size: int) -> Location | None:
        """Return where the bytes with this digest and size lie, if the manifest has them."""
        row = self._rows.get(int.from_bytes(digest[:8], "little"))
        if row is None or self._sizes[row] != size or self._digests[row * 32 : row * 32 + 32].tobytes() != digest:
            return None
        pack = int(self._packs[row])
        if pack < 0:
            return Location(None, 0, self._manifest.entry(row).chunks)
        return Location(self._manifest.packs[pack], int(self._offsets[row]), ())


def _digests(table: Any) -> Any:
    column = table.column("blake3").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return np.frombuffer(column.buffers()[1], dtype=np.uint8)[column.offset * 32 : (column.offset + len(column)) * 32]
