"""Dataset versions of the object store, by the kernel's dataset format."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from cache_manager.application.lake_ports import Checked, Filled, Near, VersionFacts
from millrace.datasets.ancestor import Ancestor
from millrace.datasets.builder import subset
from millrace.datasets.fill import fill
from millrace.datasets.manifest import Manifest
from millrace.datasets.path_columns import folders
from millrace.datasets.progress import Progress
from millrace.datasets.stored import load_commit, load_manifest
from millrace.datasets.verify import hash_file, verify_tree
from millrace.errors import Corrupt
from millrace.failpoints import fp
from millrace.objects import ObjectStore

REMEMBERED = 4


class DatasetLake:
    """`Lake` on an object store. The last few versions' manifests are remembered: they never change."""

    def __init__(self, store: ObjectStore, *, transfers: int) -> None:
        self._store = store
        self._transfers = transfers
        self._known: OrderedDict[tuple[str, str], tuple[VersionFacts, Manifest]] = OrderedDict()

    async def facts(self, project: str, commit: str) -> VersionFacts:
        """Return what a version consists of, as its commit and manifest say."""
        return (await self._version(project, commit))[0]

    async def fill(
        self,
        project: str,
        facts: VersionFacts,
        target: Path,
        progress: Callable[[int, int], None],
        near: Near | None = None,
    ) -> Filled:
        """Write a version's files into the new folder `target`, verified and durable."""
        _, manifest = await self._version(project, facts.commit)
        ancestor = None if near is None else Ancestor(near.path, (await self._version(project, near.commit))[1])

        def tell(state: Progress) -> None:
            progress(state.bytes_done, state.transferred_bytes)

        result = await fill(
            self._store,
            manifest,
            target,
            project=project,
            progress=tell,
            failpoint=fp,
            concurrency=self._transfers,
            ancestor=ancestor,
        )
        return Filled(result.tree_root, result.files, result.bytes, result.fetched_bytes, result.linked_bytes)

    async def damaged(self, project: str, facts: VersionFacts, tree: Path) -> list[str]:
        """Return the paths below `tree` whose bytes are not the version's."""
        _, manifest = await self._version(project, facts.commit)
        return await asyncio.to_thread(_damaged, tree, manifest)

    async def check(self, project: str, facts: VersionFacts, tree: Path, start: int, size: int) -> Checked:
        """Read files of a tree again, from the given one on, until `size` bytes were read."""
        _, manifest = await self._version(project, facts.commit)
        return await asyncio.to_thread(_check, tree, manifest, start, size)

    async def mend(self, project: str, facts: VersionFacts, paths: Sequence[str], target: Path) -> int:
        """Write those files of the version that are at `paths` below the new folder `target`, verified."""
        _, manifest = await self._version(project, facts.commit)
        rows = [row for path in paths if (row := manifest.find(path)) is not None]
        wanted = await asyncio.to_thread(subset, manifest, rows)
        return (await fill(self._store, wanted, target, project=project)).fetched_bytes

    async def _version(self, project: str, commit: str) -> tuple[VersionFacts, Manifest]:
        known = self._known.get((project, commit))
        if known is None:
            known = await self._load(project, commit)
            self._known[project, commit] = known
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end((project, commit))
        return known

    async def _load(self, project: str, commit: str) -> tuple[VersionFacts, Manifest]:
        stored = await load_commit(self._store, project, commit)
        manifest = await load_manifest(self._store, project, stored.manifest)
        promised = (stored.root, stored.files, stored.bytes)
        held = (await asyncio.to_thread(lambda: manifest.tree_root), manifest.files, manifest.bytes)
        if promised != held:
            raise Corrupt(f"the manifest of commit {commit} is not what the commit promises")
        inner = await asyncio.to_thread(_folders, manifest)
        objects = await asyncio.to_thread(_objects, manifest)
        facts = VersionFacts(commit, stored.root, stored.manifest, stored.files, stored.bytes, inner, objects)
        return facts, manifest


def _damaged(tree: Path, manifest: Manifest) -> list[str]:
    if not tree.is_dir():
        return list(manifest.paths) or [""]
    result = verify_tree(tree, manifest)
    return sorted({*result.missing, *result.extra, *result.damaged})


def _objects(manifest: Manifest) -> int:
    """Return the number of packs and chunks that hold the version's bytes."""
    return len(manifest.packs) + len(manifest.chunk_ids())


def _check(tree: Path, manifest: Manifest, start: int, size: int) -> Checked:
    damaged, done, index = [], 0, start
    while index < len(manifest) and done < size:
        entry = manifest.entry(index)
        if hash_file(f"{tree}/{entry.path}") != entry.digest:
            damaged.append(entry.path)
        done += max(1, entry.size)
        index += 1
    return Checked(index if index < len(manifest) else None, done, damaged)


def _folders(manifest: Manifest) -> int:
    """Return the number of folders that the paths need."""
    return sum(1 for _ in folders(manifest.table.column("path").combine_chunks()))
