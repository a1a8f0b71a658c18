"""The zip of some files of a version: the bytes around them, and where each begins, known before the first is read.

Entries are stored, not deflated: what versions hold is compressed for the most part, and only so is the length of the
whole known beforehand. All times are the format's first, 1 January 1980, so that equal rows give equal bytes. Sizes
and places beyond 4 GiB, and more than 65,534 entries, are written as ZIP64 (APPNOTE.TXT 6.3, sections 4.3 and 4.5).

Per entry, only its CRC-32 is kept, four bytes: the standard library's writer keeps 380, which at 600,000 files counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from millrace.datasets.manifest import Manifest

WIDE = 0xFFFFFFFF
MANY = 0xFFFF
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_DESCRIPTOR, _WIDE_DESCRIPTOR = struct.Struct("<4s3I"), struct.Struct("<4sIQQ")
_EXTRA = struct.Struct("<HHQQ")
_END = struct.Struct("<4s4H2IH")
_WIDE_END, _LOCATOR = struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")

NEEDS, NEEDS_WIDE = 20, 45
MADE_ON_UNIX = 3 << 8
UTF8, CRC_FOLLOWS = 0x0800, 0x0008
DATE = (1980 - 1980) << 9 | 1 << 5 | 1
REGULAR = 0o100000
BLOCK = 4_096
"""Entries of the central directory that are written at once."""


class ZipLayout:
    """The zip of the rows `first` to `last` of a manifest. `crcs` is filled in while the files are sent."""

    def __init__(self, manifest: Manifest, first: int, last: int) -> None:
        table = manifest.table.slice(first, last - first)
        self.entries = last - first
        self.crcs = np.zeros(self.entries, dtype=np.uint32)
        self.sizes = table.column("size").to_numpy()
        self._names = table.column("path")
        self._modes = table.column("mode")
        lengths = pc.binary_length(self._names).to_numpy().astype(np.int64)
        self.late = pc.fill_null(table.column("pack"), -1).to_numpy() < 0
        """Which entries come in chunks: they are sent before their CRC is known."""
        self.late &= self.sizes > 0
        self._wide = self.sizes >= WIDE
        local = _LOCAL.size + lengths + self.sizes + self._wide * _EXTRA.size
        local += self.late * np.where(self._wide, _WIDE_DESCRIPTOR.size, _DESCRIPTOR.size)
        ends = np.cumsum(local)
        self._offsets = ends - local
        self.directory_at = int(ends[-1]) if self.entries else 0
        self._far = self._offsets >= WIDE
        central = _CENTRAL.size + lengths + (self._wide | self._far) * 4 + self._wide * 16 + self._far * 8
        self._directory = int(central.sum())
        self._wide_end = self.entries >= MANY or max(self.directory_at, self._directory) >= WIDE

    @property
    def length(self) -> int:
        """Return the bytes of the whole zip."""
        end = _END.size + (_WIDE_END.size + _LOCATOR.size if self._wide_end else 0)
        return self.directory_at + self._directory + end

    def header(self, index: int) -> bytes:
        """Return what stands before an entry's bytes; where they come in chunks, size and CRC follow them."""
        name = str(self._names[index].as_py()).encode()
        late, wide = bool(self.late[index]), bool(self._wide[index])
        size = WIDE if wide else 0 if late else int(self.sizes[index])
        crc = 0 if late else int(self.crcs[index])
        extra = _EXTRA.pack(1, 16, 0, 0) if wide else b""
        needs = NEEDS_WIDE if wide else NEEDS
        fixed = _LOCAL.pack(b"PK\3\4", needs, _flags(late=late), 0, 0, DATE, crc, size, size, len(name), len(extra))
        return fixed + name + extra

    def descriptor(self, index: int) -> bytes:
        """Return what stands after the bytes of an entry that came in chunks."""
        layout = _WIDE_DESCRIPTOR if self._wide[index] else _DESCRIPTOR
        size = int(self.sizes[index])
        return layout.pack(b"PK\7\x08", int(self.crcs[index]), size, size)

    def directory(self) -> Iterator[bytes]:
        """Yield the central directory and the end, some thousand entries at a time."""
        for start in range(0, self.entries, BLOCK):
            names = self._names.slice(start, BLOCK).to_pylist()
            modes = self._modes.slice(start, BLOCK).to_pylist()
            rows = zip(range(start, start + len(names)), names, modes, strict=True)
            yield b"".join(self._central(index, name.encode(), mode) for index, name, mode in rows)
        yield self._end()

    def _central(self, index: int, name: bytes, mode: int) -> bytes:
        size, offset = int(self.sizes[index]), int(self._offsets[index])
        wide, far = bool(self._wide[index]), bool(self._far[index])
        values = [size, size] * wide + [offset] * far
        extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        shown = WIDE if wide else size
        needs = NEEDS_WIDE if values else NEEDS
        flags = _flags(late=bool(self.late[index]))
        fixed = _CENTRAL.pack(
            *(b"PK\1\2", MADE_ON_UNIX | needs, needs, flags, 0, 0, DATE, int(self.crcs[index]), shown, shown),
            *(len(name), len(extra), 0, 0, 0, (REGULAR | mode) << 16, WIDE if far else offset),
        )
        return fixed + name + extra

    def _end(self) -> bytes:
        count, size, start = self.entries, self._directory, self.directory_at
        wide = b""
        if self._wide_end:
            version = MADE_ON_UNIX | NEEDS_WIDE
            wide = _WIDE_END.pack(b"PK\6\6", 44, version, NEEDS_WIDE, 0, 0, count, count, size, start)
            wide += _LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
        few = min(count, MANY)
        return wide + _END.pack(b"PK\5\6", 0, 0, few, few, min(size, WIDE), min(start, WIDE), 0)


def _flags(*, late: bool) -> int:
    return UTF8 | (CRC_FOLLOWS if late else 0)
