from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.manifest import Manifest, PackRef
from millrace.datasets.pack import footer, pack_id, size_with

PROJECT = "default"


def write_tree(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        os.utime(target, ns=(10**18, 10**18))


def read_tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def manifest_of(files: dict[str, bytes]) -> Manifest:
    """A manifest of small files that all lie in one pack, which nobody stored."""
    builder = ManifestBuilder()
    blobs = [(digest(data), len(data)) for data in files.values()]
    end = footer(blobs)
    offset, size = 0, sum(length for _, length in blobs)
    ref = PackRef(pack_id(end), size_with(len(blobs), size))
    for path, data in files.items():
        builder.add(path, digest(data), len(data), mode=0o644, mtime_ns=5, pack=builder.pack(ref), offset=offset)
        offset += len(data)
    return builder.build()
