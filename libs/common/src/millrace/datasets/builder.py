"""Collecting rows into a manifest with little memory: columns of numbers, not objects."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.datasets.manifest import Entry, Manifest, PackRef
from millrace.datasets.manifest_checks import check_table, schema_of
from millrace.datasets.path_columns import clashes
from millrace.datasets.paths import refuse

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

    def add_rest(self, base: Manifest) -> None:
        """Add the rows of another manifest whose paths are not here yet."""
        held = set(self._paths)
        for entry in base.entries():
            if entry.path not in held:
                self.add_entry(entry, None if entry.pack is None else base.packs[entry.pack])

    def build(self) -> Manifest:
        """Return the manifest.

        Raises:
            Refused: paths clash.
            Invalid: a row breaks a rule.
        """
        paths = pa.array(self._paths, pa.large_string())
        refuse(clashes(paths))
        return assemble(
            Columns(
                paths=paths,
                digests=np.frombuffer(bytes(self._digests), dtype=np.uint8).reshape(-1, 32),
                sizes=_numbers(self._sizes, np.int64),
                modes=_numbers(self._modes, np.int32),
                mtimes=_numbers(self._times, np.int64),
                packs=_numbers(self._packs, np.int32),
                offsets=_numbers(self._offsets, np.int64),
                chunks=self._chunks,
            ),
            self._pack_list,
        )


def subset(manifest: Manifest, rows: Iterable[int]) -> Manifest:
    """Return the manifest of some files of a version, by their positions."""
    builder = ManifestBuilder()
    for entry in manifest.take(list(rows)):
        builder.add_entry(entry, None if entry.pack is None else manifest.packs[entry.pack])
    return builder.build()


def joined(parts: Iterable[Manifest], base: Manifest | None = None) -> Manifest:
    """Return the manifest of all parts together, and of the files of `base` that no part overwrites.

    Raises:
        Refused: paths of two parts are the same, or clash.
    """
    builder = ManifestBuilder()
    for part in parts:
        for entry in part.entries():
            builder.add_entry(entry, None if entry.pack is None else part.packs[entry.pack])
    if base is not None:
        builder.add_rest(base)
    return builder.build()


def _numbers(values: array[int], kind: Any) -> Any:
    return np.frombuffer(values, dtype=kind) if len(values) else np.empty(0, kind)


@dataclass(frozen=True, slots=True)
class Columns:
    """Files in any order, by column: n paths (Arrow), (n, 32) digest bytes, n numbers each; `chunks` by position."""

    paths: Any
    digests: Any
    sizes: Any
    modes: Any
    mtimes: Any
    packs: Any
    offsets: Any
    chunks: Mapping[int, Sequence[bytes]]


def assemble(columns: Columns, packs: Sequence[PackRef | None]) -> Manifest:
    """Return the manifest of files whose paths are known not to clash; `packs` by the ordinals in the columns.

    Raises:
        Invalid: a row breaks a rule.
    """
    order = pc.array_sort_indices(columns.paths).to_numpy()
    places, used = _renumbered(columns.packs[order], packs)
    absent = places < 0
    chunks = [columns.chunks.get(int(index)) for index in order] if columns.chunks else None
    kind = schema_of(None).field("chunks").type
    table = pa.table(
        [
            columns.paths.take(pa.array(order)).cast(pa.string()),
            _digest_column(columns.digests[order]),
            pa.array(columns.sizes[order]),
            pa.array((columns.modes[order] & 0o777).astype(np.int32)),
            pa.array(columns.mtimes[order]),
            pa.array(np.maximum(places, 0), mask=absent),
            pa.array(np.where(absent, 0, columns.offsets[order]), mask=absent),
            pa.nulls(len(order), kind) if chunks is None else pa.array(chunks, kind),
        ],
        schema=schema_of((ref.id, ref.size) for ref in used),
    )
    check_table(table)
    return Manifest(table)


def _digest_column(digests: Any) -> Any:
    data = np.ascontiguousarray(digests)
    return pa.Array.from_buffers(pa.binary(32), len(data), [None, pa.py_buffer(data)])


def _renumbered(ordinals: Any, packs: Sequence[PackRef | None]) -> tuple[Any, list[PackRef]]:
    """Return the ordinals that the rows get, and their packs, in the order in which rows first name them."""
    renumber = np.full(len(packs) + 1, NO_PACK, dtype=np.int32)
    by_id: dict[str, int] = {}
    used: list[PackRef] = []
    named, first = np.unique(ordinals, return_index=True)
    for ordinal in named[np.argsort(first)].tolist():
        if ordinal == NO_PACK:
            continue
        ref = packs[ordinal]
        if ref is None:
            raise RuntimeError("a pack was opened and never closed")
        if ref.id not in by_id:
            by_id[ref.id] = len(used)
            used.append(ref)
        renumber[ordinal] = by_id[ref.id]
    return renumber[ordinals], used
