"""The pack that is being filled: it knows what fits, where each blob lies, and its own name once it is closed."""

from __future__ import annotations

from dataclasses import dataclass, field

from millrace.datasets.manifest import PackRef
from millrace.datasets.pack import footer, pack_id, size_with


@dataclass(slots=True)
class OpenPack:
    """Blobs back to back. `ordinal` is the number under which rows point to it before it has a name."""

    ordinal: int
    blobs: list[tuple[bytes, int]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def fits(self, size: int, target: int) -> bool:
        """Return whether a blob of `size` bytes leaves the pack within `target`."""
        return size_with(len(self.blobs) + 1, len(self.data) + size) <= target

    def add(self, digest: bytes, data: bytes | memoryview) -> int:
        """Append a blob and return its offset."""
        offset = len(self.data)
        self.blobs.append((digest, len(data)))
        self.data += data
        return offset

    def close(self) -> PackRef:
        """Append index and trailer, and return the pack's name and size."""
        end = footer(self.blobs)
        self.data += end
        return PackRef(pack_id(end), len(self.data))
