"""Model packages: the files of a model version, named by one digest."""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from millrace.events.envelope import canonical_json


def package_digest(files: Iterable[tuple[str, str, int]]) -> str:
    """Return the digest that names a package of (path, BLAKE3 hex digest, size in bytes) files, in any order.

    It is the BLAKE3 of the canonical JSON of the file list, sorted by path.
    """
    listed = [{"path": path, "digest": digest, "size": size} for path, digest, size in sorted(files)]
    return blake3(canonical_json(listed)).hexdigest()


def package_prefix(project: str, digest: str) -> str:
    """Return the key prefix below which a package's files lie in the lake."""
    return f"{project}/models/{digest}"
