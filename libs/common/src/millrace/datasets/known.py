"""Which blobs the lake has already, as far as a parent manifest tells. Deduplication never crosses projects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.datasets.manifest import Entry, Manifest, PackRef


@dataclass(frozen=True, slots=True)
class Location:
    """Where a file's bytes lie: a pack and an offset, or chunks."""

    pack: PackRef | None
    offset: int
    chunks: tuple[bytes, ...]


class KnownBlobs:
    """Looks digests up in a manifest. Holds 8 bytes of each digest and checks the rest in the table."""

    def __init__(self, manifest: Manifest | None) -> None:
        self._manifest = manifest
        self._rows: dict[int, int] = {}
        self.chunks: set[bytes] = set()
        if manifest is not None and manifest.files:
            heads = _heads(manifest.table)
            self._rows = dict(zip(heads.tolist(), range(manifest.files), strict=True))
            self.chunks = {bytes.fromhex(chunk) for chunk in manifest.chunk_ids()}

    def find(self, digest: bytes, size: int) -> Location | None:
        """Return where the bytes with this digest and size lie, if the manifest has them."""
        row = self._rows.get(int.from_bytes(digest[:8], "little"))
        if row is None or self._manifest is None:
            return None
        entry: Entry = self._manifest.entry(row)
        if entry.digest != digest or entry.size != size:
            return None
        pack = None if entry.pack is None else self._manifest.packs[entry.pack]
        return Location(pack, entry.offset, entry.chunks)


def _heads(table: Any) -> Any:
    column = table.column("blake3").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8)[column.offset * 32 : (column.offset + len(column)) * 32]
    return np.ascontiguousarray(data.reshape(-1, 32)[:, :8]).view("<u8").ravel()
