"""What makes a table a manifest: its columns, and the rules that each row of a stranger's manifest must keep.

Everything is checked by column, so that 600,000 rows take a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.datasets.arrow_bounds import claimed
from millrace.datasets.keys import check_digest
from millrace.datasets.limits import CHUNK, MAX_FILE, MAX_FILES, MAX_MANIFEST, MIB, PACK_MAX
from millrace.datasets.pack import TRAILER
from millrace.datasets.path_columns import suspects
from millrace.datasets.paths import check_path
from millrace.errors import Invalid

FORMAT = b"millrace-manifest/1"
MAX_RAW = 4 * 1024 * MIB
MAX_RATIO = 200
"""Unpacked over stored bytes; real manifests have 3 to 10."""

MAX_PACKS = 1_000_000

_DIGESTS = pa.binary(32)
_FIELDS = [
    ("path", pa.string(), False),
    ("blake3", _DIGESTS, False),
    ("size", pa.int64(), False),
    ("mode", pa.int32(), False),
    ("mtime_ns", pa.int64(), False),
    ("pack", pa.int32(), True),
    ("offset", pa.int64(), True),
    ("chunks", pa.list_(pa.field("item", _DIGESTS, nullable=False)), True),
]


def schema_of(packs: Iterable[tuple[str, int]] | None) -> Any:
    """Return the schema, with the table of packs in its metadata unless None."""
    schema = pa.schema([pa.field(name, kind, nullable=nullable) for name, kind, nullable in _FIELDS])
    if packs is None:
        return schema
    table = json.dumps([list(pack) for pack in packs], separators=(",", ":")).encode()
    return schema.with_metadata({b"millrace": FORMAT, b"packs": table})


def split_packs(metadata: dict[bytes, bytes] | None) -> list[tuple[str, int]]:
    """Return (id, size) of every pack in a schema's metadata.

    Raises:
        Invalid: it is not a manifest's.
    """
    if not metadata or metadata.get(b"millrace") != FORMAT:
        raise Invalid("not a manifest of a known version")
    try:
        rows = json.loads(metadata.get(b"packs", b""))
        packs = [(check_digest(pack), int(size)) for pack, size in rows]
    except (ValueError, TypeError, RecursionError):
        raise Invalid("the manifest's table of packs is malformed") from None
    if len(packs) > MAX_PACKS or any(not TRAILER.size < size <= PACK_MAX for _, size in packs):
        raise Invalid("the manifest's table of packs is absurd")
    return packs


def check_claims(data: bytes) -> None:
    """Refuse bytes that would unpack to more than a manifest can be.

    Raises:
        Invalid: too large, or far larger unpacked than stored.
    """
    if len(data) > MAX_MANIFEST:
        raise Invalid(f"a manifest of {len(data)} bytes exceeds {MAX_MANIFEST}")
    rows, raw = claimed(data)
    if rows > MAX_FILES or raw > MAX_RAW or raw > MIB + MAX_RATIO * len(data):
        raise Invalid(f"the manifest claims {rows} rows and {raw} bytes, which is absurd for {len(data)}")


def check_table(table: Any) -> None:
    """Check every row.

    Raises:
        Invalid: a rule is broken; the message names the path where there is one.
    """
    packs = split_packs(table.schema.metadata)
    for name, _, nullable in _FIELDS:
        if not nullable and table.column(name).null_count:
            raise Invalid(f"the manifest has empty cells in column {name}")
    _check_paths(table.column("path").combine_chunks())
    size, mode = _numbers(table, "size"), _numbers(table, "mode")
    if size.size and (size.min() < 0 or size.max() > MAX_FILE or float(size.sum(dtype=np.float64)) > 2**62):
        raise Invalid("a size in the manifest is absurd")
    if mode.size and (mode.min() < 0 or mode.max() > 0o777):
        raise Invalid("a mode in the manifest is absurd")
    _check_places(table, packs, size)


def _numbers(table: Any, name: str, empty: int = -1) -> Any:
    return pc.fill_null(table.column(name), empty).to_numpy()


def _check_paths(paths: Any) -> None:
    if len(paths) and not pc.all(pc.less(paths[:-1], paths[1:])).as_py() and len(paths) > 1:
        raise Invalid("the manifest's paths are not strictly sorted")
    for index in suspects(paths):
        check_path(paths[index].as_py())


def _check_places(table: Any, packs: list[tuple[str, int]], size: Any) -> None:
    pack, offset = _numbers(table, "pack"), _numbers(table, "offset")
    counts = pc.fill_null(pc.list_value_length(table.column("chunks")), 0).to_numpy()
    packed, chunked = pack >= 0, counts > 0
    limits = np.array([limit for _, limit in packs] or [0], dtype=np.int64)
    bad = packed & chunked
    bad |= (pack < -1) | (pack >= len(packs)) | (packed & (offset < 0)) | (~packed & (offset > 0))
    end = np.where(packed, limits[np.clip(pack, 0, len(limits) - 1)], 0)
    bad |= packed & ((offset > end) | (size > end - offset))
    bad |= chunked & (counts != -(-size // CHUNK))
    bad |= ~packed & ~chunked & (size > 0)
    if bad.any():
        path = table.column("path")[int(np.argmax(bad))].as_py()
        raise Invalid(f"the manifest misplaces {path[:200]!a}")
