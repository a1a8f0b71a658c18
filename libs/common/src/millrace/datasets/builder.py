"""Collecting rows into a manifest with little memory: columns of numbers, not objects."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.datasets.manifest import Entry, Manifest, PackRef
from millrace.datasets.manifest_checks import check_table, schema_of
from millrace.datasets.paths import collisions, refuse

NO_PACK = -1


class ManifestBuilder:
    """Takes files in any order; `build` sorts them. Packs keep the order in which they were first named."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._digests = bytearray()
        self._sizes, self._times, self._offsets = array("q"), array("q"), array("q")
        self._modes, self._packs = array("i"), array("i")
        self._chunks: dict[int, tuple[bytes, ...]] = {}
        self._pack_list: list[PackRef | None] = []
        self._ordinals: dict[str, int] = {}

    def pack(self, ref: PackRef) -> int:
        """Return the ordinal of a pack, adding it if it is new."""
        ordinal = self._ordinals.get(ref.id)
        if ordinal is None:
            ordinal = self.open_pack()
            self.close_pack(ordinal, ref)
        return ordinal

    def open_pack(self) -> int:
        """Return the ordinal of a pack whose id is not known yet."""
        self._pack_list.append(None)
        return len(self._pack_list) - 1

    def close_pack(self, ordinal: int, ref: PackRef) -> None:
        """Say which pack an ordinal of `open_pack` became."""
        self._pack_list[ordinal] = ref
        self._ordinals.setdefault(ref.id, ordinal)

    def add(
        self,
        path: str,
        digest: bytes,
        size: int,
        *,
        mode: int,
        mtime_ns: int,
        pack: int = NO_PACK,
        offset: int = 0,
        chunks: Sequence[bytes] = (),
    ) -> None:
        """Add one file; its place is a pack's ordinal and an offset, or chunks, or neither if it is empty."""
        if chunks:
            self._chunks[len(self._paths)] = tuple(chunks)
        self._paths.append(path)
        self._digests += digest
        self._sizes.append(size)
        self._modes.append(mode & 0o777)
        self._times.append(mtime_ns)
        self._packs.append(pack)
        self._offsets.append(offset)

    def add_entry(self, entry: Entry, ref: PackRef | None) -> None:
        """Add a row of another manifest; `ref` is the pack it lies in there."""
        self.add(
            entry.path,
            entry.digest,
            entry.size,
            mode=entry.mode,
            mtime_ns=entry.mtime_ns,
            pack=NO_PACK if ref is None else self.pack(ref),
            offset=entry.offset,
            chunks=entry.chunks,
        )

    def build(self) -> Manifest:
        """Return the manifest.

        Raises:
            Refused: paths clash.
            Invalid: a row breaks a rule.
        """
        refuse(collisions(self._paths))
        order = sorted(range(len(self._paths)), key=self._paths.__getitem__)
        used, renumber = self._used(order)
        packs = np.frombuffer(self._packs, dtype=np.int32)[order] if order else np.empty(0, np.int32)
        absent = packs < 0
        places = np.where(absent, 0, renumber[np.maximum(packs, 0)] if len(renumber) else 0).astype(np.int32)
        table = pa.table(
            [
                pa.array([self._paths[index] for index in order], pa.string()),
                self._digest_column(order),
                pa.array(_pick(self._sizes, order, np.int64)),
                pa.array(_pick(self._modes, order, np.int32)),
                pa.array(_pick(self._times, order, np.int64)),
                pa.array(places, mask=absent),
                pa.array(_pick(self._offsets, order, np.int64), mask=absent),
                pa.array([self._chunks.get(index) for index in order], schema_of(None).field("chunks").type),
            ],
            schema=schema_of((ref.id, ref.size) for ref in used),
        )
        check_table(table)
        return Manifest(table)

    def _digest_column(self, order: list[int]) -> Any:
        grid = np.frombuffer(bytes(self._digests), dtype=np.uint8).reshape(-1, 32)[order]
        return pa.Array.from_buffers(pa.binary(32), len(order), [None, pa.py_buffer(grid.tobytes())])

    def _used(self, order: list[int]) -> tuple[list[PackRef], Any]:
        """Return the packs that rows point to, in the order of the rows, and old ordinal → new."""
        renumber = np.full(len(self._pack_list), NO_PACK, dtype=np.int32)
        by_id: dict[str, int] = {}
        used: list[PackRef] = []
        for index in order:
            ordinal = self._packs[index]
            if ordinal == NO_PACK or renumber[ordinal] != NO_PACK:
                continue
            ref = self._pack_list[ordinal]
            if ref is None:
                raise RuntimeError("a pack was opened and never closed")
            if ref.id not in by_id:
                by_id[ref.id] = len(used)
                used.append(ref)
            renumber[ordinal] = by_id[ref.id]
        return used, renumber


def _pick(values: array[int], order: list[int], kind: Any) -> Any:
    return np.frombuffer(values, dtype=kind)[order] if order else np.empty(0, kind)
