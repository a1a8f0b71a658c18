"""Manifests and commits in the object store: written once under the digest of their bytes, verified when read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from millrace.datasets.keys import commit_key, manifest_key, pack_key
from millrace.datasets.limits import MAX_COMMIT, MAX_MANIFEST
from millrace.datasets.manifest import Manifest
from millrace.datasets.spare import spare_packs
from millrace.errors import Invalid, NotFound
from millrace.objects.port import ObjectStore

if TYPE_CHECKING:
    from millrace.datasets.commit import Commit


async def save_manifest(store: ObjectStore, project: str, manifest: Manifest) -> str:
    """Store a manifest, and a spare copy of it in packs, and return its id; "already there" is success."""
    data = manifest.to_bytes()
    await asyncio.gather(
        store.put(manifest_key(project, manifest.id), data, create_only=True),
        *(store.put(pack_key(project, pack), body, create_only=True) for pack, body in spare_packs(manifest.id, data)),
    )
    return manifest.id


def stored_sizes(manifest: Manifest) -> list[int]:
    """Return the sizes in bytes of what `save_manifest` writes: the manifest, and the packs of its spare copy."""
    data = manifest.to_bytes()
    return [len(data), *(len(body) for _, body in spare_packs(manifest.id, data))]


async def load_manifest(store: ObjectStore, project: str, manifest: str) -> Manifest:
    """Return a stored manifest, verified.

    Raises:
        NotFound, Corrupt, Invalid: what their names say.
    """
    data = await _bounded(store, manifest_key(project, manifest), MAX_MANIFEST)
    return await asyncio.to_thread(Manifest.parse, data, expect=manifest)


async def save_commit(store: ObjectStore, project: str, commit: Commit) -> str:
    """Store a commit object and return its id; "already there" is success."""
    await store.put(commit_key(project, commit.id), commit.to_bytes(), create_only=True)
    return commit.id


async def load_commit(store: ObjectStore, project: str, commit: str) -> Commit:
    """Return a stored commit, verified.

    Raises:
        NotFound, Corrupt, Invalid: what their names say.
    """
    from millrace.datasets.commit import Commit  # noqa: PLC0415 - its models take a tenth of a push without a change

    data = await _bounded(store, commit_key(project, commit), MAX_COMMIT)
    return Commit.parse(data, expect=commit)


async def _bounded(store: ObjectStore, key: str, limit: int) -> bytes:
    info = await store.head(key)
    if info is None:
        raise NotFound(f"no such object: {key}", key=key)
    if info.size > limit:
        raise Invalid(f"object {key} of {info.size} bytes exceeds {limit}")
    return await store.get(key)
