"""Committing a version from a program: files from anywhere, instead of the newest version's or on top of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from millrace.errors import Conflict, NotFound

if TYPE_CHECKING:
    from millrace.datasets.manifest import Manifest
    from millrace.datasets.sources import SourceFile
    from millrace_sdk.client import AsyncCatalog

Mode = Literal["replace", "append"]
ATTEMPTS = 5
"""How often a commit is put on top of what others committed meanwhile."""


@dataclass(frozen=True)
class Change:
    """How the head becomes the next version: `append` keeps its other files, `replace` none of them."""

    mode: Mode = "replace"
    message: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)


async def ensure_dataset(catalog: AsyncCatalog, name: str) -> None:
    """Create a dataset unless it exists; one that exists keeps its description."""
    try:
        await catalog.dataset(name)
    except NotFound:
        await catalog.create_dataset(name)


async def commit_files(catalog: AsyncCatalog, name: str, files: Iterable[SourceFile], change: Change) -> dict[str, Any]:
    """Send files and commit them as the dataset's next version, which is returned.

    Raises:
        Refused: bad or clashing paths.
        Conflict: others commit all the time.
    """
    from millrace.datasets.push import push_part

    await ensure_dataset(catalog, name)
    head = await _head(catalog, name)
    parent = await _manifest(catalog, name, head) if head else None
    store = _store(catalog, name)
    try:
        part = await push_part(files, store, project=catalog.project, parent=parent)
    finally:
        await store.aclose()
    return await commit_parts(catalog, name, [part.manifest], change)


async def commit_parts(catalog: AsyncCatalog, name: str, parts: Sequence[Manifest], change: Change) -> dict[str, Any]:
    """Commit what `push_part` brought into the lake as one version, which is returned.

    The head is returned where it holds the same files already.

    Raises:
        Refused: paths of two parts are the same, or clash.
        Conflict: others commit all the time.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await _commit(catalog, name, parts, change)
        except Conflict:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _commit(catalog: AsyncCatalog, name: str, parts: Sequence[Manifest], change: Change) -> dict[str, Any]:
    import asyncio

    from millrace.datasets.builder import joined
    from millrace.datasets.stored import save_manifest

    head = await _head(catalog, name)
    parent = await _manifest(catalog, name, head) if head else None
    base = parent if change.mode == "append" else None
    manifest = await asyncio.to_thread(joined, parts, base)
    if head and manifest.tree_root == head["tree_root"]:
        return head
    store = _store(catalog, name)
    try:
        await save_manifest(store, catalog.project, manifest)
    finally:
        await store.aclose()
    held = {pack.id for pack in parent.packs} if parent is not None else set()
    body = {
        "manifest": manifest.id,
        "tree_root": manifest.tree_root,
        "files": manifest.files,
        "bytes": manifest.bytes,
        "packs": [pack.id for pack in manifest.packs if pack.id not in held],
        "parent": head["commit"] if head else None,
        "message": change.message,
        "lineage": dict(change.lineage),
    }
    made: dict[str, Any] = await catalog.commit(name, body)
    return made


async def _head(catalog: AsyncCatalog, name: str) -> dict[str, Any] | None:
    dataset = await catalog.dataset(name)
    if dataset["head"] is None:
        return None
    found: dict[str, Any] = await catalog.version(name, dataset["head"]["version"])
    return found


async def _manifest(catalog: AsyncCatalog, name: str, version: Mapping[str, Any]) -> Manifest:
    from millrace.datasets.stored import load_manifest

    store = _store(catalog, name, version["version"])
    try:
        return await load_manifest(store, catalog.project, version["manifest"])
    finally:
        await store.aclose()


def _store(catalog: AsyncCatalog, name: str, ref: int | None = None) -> Any:
    from millrace_sdk.gateway_store import GatewayStore

    return GatewayStore(catalog, name, ref=ref)
