"""Reading a tree again, byte by byte, against the manifest that it should be. Blocking: call it in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from millrace.datasets.limits import MIB
from millrace.datasets.manifest import Manifest
from millrace.datasets.tree import tree_root
from millrace.datasets.walk import Found, walk
from millrace.errors import Unavailable

PIECE = 4 * MIB
THREADS = 4


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a tree really is. `tree_root` is computed from the bytes that are there; paths are sorted."""

    files: int
    bytes: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    damaged: tuple[str, ...]
    tree_root: str

    @property
    def clean(self) -> bool:
        """Return whether the tree is the manifest's, no more and no less."""
        return not (self.missing or self.extra or self.damaged)


def verify_tree(
    root: Path, manifest: Manifest, *, threads: int = THREADS, on_file: Callable[[int], None] | None = None
) -> VerifyResult:
    """Hash every file below `root` and compare. `on_file` is told each size in bytes, for a progress bar.

    Links, devices and files that the manifest does not know are `extra`; a damaged file has other bytes, or can't be
    read. `_READY` and `.millrace-data` at the top are not data.

    Raises:
        Unavailable: a folder cannot be read.
    """
    expected = {entry.path: entry for entry in manifest.entries()}
    rows: list[tuple[str, bytes, int]] = []
    extra, damaged = [], []
    seen = set()
    for found, digest in _hashed(root, threads):
        if on_file is not None:
            on_file(found.stat.st_size)
        entry = expected.get(found.path)
        if entry is None:
            extra.append(found.path)
            continue
        seen.add(found.path)
        if digest != entry.digest:
            damaged.append(found.path)
        if digest is not None:
            rows.append((found.path, digest, found.stat.st_size))
    rows.sort()
    return VerifyResult(
        files=len(seen),
        bytes=sum(size for _, _, size in rows),
        missing=tuple(sorted(expected.keys() - seen)),
        extra=tuple(sorted(extra)),
        damaged=tuple(sorted(damaged)),
        tree_root=tree_root(rows),
    )


def _hashed(root: Path, threads: int) -> Iterator[tuple[Found, bytes | None]]:
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="verify") as pool:
        batch: list[Found] = []
        try:
            for found in walk(root):
                batch.append(found)
                if len(batch) == 512:
                    yield from zip(batch, pool.map(_digest, batch), strict=True)
                    batch = []
        except OSError as error:
            raise Unavailable(f"cannot read {error.filename}: {error.strerror}") from error
        yield from zip(batch, pool.map(_digest, batch), strict=True)


def _digest(found: Found) -> bytes | None:
    return hash_file(found.full) if found.regular else None


def hash_file(path: str) -> bytes | None:
    """Return the BLAKE3 of a file, or None where it can't be read. Links are not followed."""
    hasher = blake3()
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while piece := os.read(handle, PIECE):
            hasher.update(piece)
    except OSError:
        return None
    finally:
        os.close(handle)
    return hasher.digest()


def keep_good(root: Path, manifest: Manifest) -> dict[str, int]:
    """Remove everything below `root` but files that are just what the manifest says; return their paths and sizes."""
    kept: dict[str, int] = {}
    for found in list(walk(root)):
        row = manifest.find(found.path) if found.regular else None
        entry = None if row is None else manifest.entry(row)
        if entry is not None and found.stat.st_size == entry.size and _digest(found) == entry.digest:
            kept[found.path] = entry.size
        else:
            os.unlink(found.full)  # noqa: PTH108
    return kept
