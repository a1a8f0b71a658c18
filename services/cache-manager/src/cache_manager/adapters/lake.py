"""Dataset versions of the object store, by the kernel's dataset format."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache_manager.application.lake_ports import Checked, Filled, Near, VersionFacts
from cache_manager.domain.selection import WHOLE, Selection
from millrace.datasets.ancestor import Ancestor
from millrace.datasets.builder import subset
from millrace.datasets.fill import fill
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import damaged_objects, fill_packs, objects_of
from millrace.datasets.path_columns import folders
from millrace.datasets.patterns import matching
from millrace.datasets.progress import Progress
from millrace.datasets.shelf import Shelf
from millrace.datasets.stored import load_commit, load_manifest
from millrace.datasets.verify import hash_file, verify_tree
from millrace.errors import Corrupt, NotFound
from millrace.failpoints import fp
from millrace.objects import ObjectStore

REMEMBERED = 4
READY = "_READY"


@dataclass(frozen=True)
class _Part:
    """The selected part of a version: what the port says of it, and its manifest."""

    facts: VersionFacts
    manifest: Manifest


class DatasetLake:
    """`Lake` on an object store. The last few manifests are remembered: they never change."""

    def __init__(self, store: ObjectStore, *, transfers: int) -> None:
        self._store = store
        self._transfers = transfers
        self._known: OrderedDict[tuple[str, str, Selection], _Part] = OrderedDict()

    async def facts(self, project: str, commit: str, selection: Selection) -> VersionFacts:
        """Return what the selected part of a version consists of, as its commit and manifest say."""
        return (await self._part(project, commit, selection)).facts

    async def fill(
        self,
        project: str,
        facts: VersionFacts,
        target: Path,
        progress: Callable[[int, int], None],
        *,
        near: Near | None = None,
        shelf: Shelf | None = None,
        resumed: bool = False,
    ) -> Filled:
        """Write what is selected into the folder `target`, verified and durable."""
        part = await self._part(project, facts.commit, facts.selection)

        def tell(state: Progress) -> None:
            progress(state.bytes_done, state.transferred_bytes)

        common: dict[str, Any] = {"project": project, "progress": tell, "failpoint": fp, "concurrency": self._transfers}
        if facts.selection.mode == "packs":
            packs = None if near is None else near.path
            result = await fill_packs(self._store, part.manifest, target, ancestor=packs, shelf=shelf, **common)
        else:
            ancestor = await self._ancestor(project, near)
            result = await fill(self._store, part.manifest, target, ancestor=ancestor, resumed=resumed, **common)
        return Filled(
            tree_root=result.tree_root,
            files=result.files,
            bytes=result.bytes,
            fetched_bytes=result.fetched_bytes,
            linked_bytes=result.linked_bytes,
            resumed_bytes=result.resumed_bytes,
        )

    async def _ancestor(self, project: str, near: Near | None) -> Ancestor | None:
        if near is None:
            return None
        return Ancestor(near.path, (await self._part(project, near.commit, near.selection)).manifest)

    async def damaged(self, project: str, facts: VersionFacts, tree: Path) -> list[str]:
        """Return the paths below `tree` whose bytes are not as they should be."""
        part = await self._part(project, facts.commit, facts.selection)
        if facts.selection.mode == "packs":
            return await asyncio.to_thread(_damaged_packs, tree, part.manifest)
        return await asyncio.to_thread(_damaged, tree, part.manifest)

    async def check(self, project: str, facts: VersionFacts, tree: Path, start: int, size: int) -> Checked:
        """Read files of a copy again, from the given one on, until `size` bytes were read."""
        part = await self._part(project, facts.commit, facts.selection)
        if facts.selection.mode == "packs":
            return await asyncio.to_thread(_check_packs, tree, part.manifest, start, size)
        return await asyncio.to_thread(_check, tree, part.manifest, start, size)

    async def mend(self, project: str, facts: VersionFacts, paths: Sequence[str], target: Path) -> int:
        """Write those files of a copy that are at `paths` below the new folder `target`, verified."""
        manifest = (await self._part(project, facts.commit, facts.selection)).manifest
        if facts.selection.mode == "packs":
            return (await fill_packs(self._store, manifest, target, project=project, only=paths)).fetched_bytes
        rows = [row for path in paths if (row := manifest.find(path)) is not None]
        wanted = await asyncio.to_thread(subset, manifest, rows)
        return (await fill(self._store, wanted, target, project=project)).fetched_bytes

    async def _part(self, project: str, commit: str, selection: Selection) -> _Part:
        key = (project, commit, selection)
        if key not in self._known:
            self._known[key] = await self._select(project, commit, selection)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    async def _select(self, project: str, commit: str, selection: Selection) -> _Part:
        if selection == WHOLE:
            return await self._load(project, commit)
        whole = await self._part(project, commit, WHOLE)
        return await asyncio.to_thread(_selected, whole, selection)

    async def _load(self, project: str, commit: str) -> _Part:
        stored = await load_commit(self._store, project, commit)
        manifest = await load_manifest(self._store, project, stored.manifest)
        promised = (stored.root, stored.files, stored.bytes)
        held = (await asyncio.to_thread(lambda: manifest.tree_root), manifest.files, manifest.bytes)
        if promised != held:
            raise Corrupt(f"the manifest of commit {commit} is not what the commit promises")
        facts = await asyncio.to_thread(_facts, commit, stored.manifest, manifest, WHOLE)
        return _Part(facts, manifest)


def _selected(whole: _Part, selection: Selection) -> _Part:
    """Return the part of a version that is selected.

    Raises:
        NotFound: nothing matches.
    """
    manifest = whole.manifest
    if selection.paths:
        rows = np.flatnonzero(matching(manifest.table.column("path").combine_chunks(), selection.paths))
        if not len(rows):
            raise NotFound(f"no file of commit {whole.facts.commit[:12]} matches {', '.join(selection.paths)}")
        manifest = subset(manifest, rows)
    return _Part(_facts(whole.facts.commit, whole.facts.manifest, manifest, selection), manifest)


def _facts(commit: str, stored: str, manifest: Manifest, selection: Selection) -> VersionFacts:
    files = objects_of(manifest)
    facts = VersionFacts(
        commit=commit,
        tree_root=manifest.tree_root,
        manifest=stored,
        files=manifest.files,
        bytes=manifest.bytes,
        folders=2 if selection.mode == "packs" else _folders(manifest),
        objects=len(files) - 1,
        stored_bytes=manifest.bytes,
        stored_files=manifest.files,
        selection=selection,
    )
    if selection.mode == "packs":
        return replace(facts, stored_bytes=sum(file.size for file in files), stored_files=len(files))
    return facts


def _damaged(tree: Path, manifest: Manifest) -> list[str]:
    if not tree.is_dir():
        return list(manifest.paths) or [""]
    result = verify_tree(tree, manifest)
    return sorted({*result.missing, *result.extra, *result.damaged})


def _damaged_packs(root: Path, manifest: Manifest) -> list[str]:
    files = objects_of(manifest)
    known = {file.path for file in files}
    extra = [name for name in _files_below(root) if name not in known]
    return sorted({*damaged_objects(root, files), *extra})


def _files_below(root: Path) -> list[str]:
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
    return [name for name in found if name != READY]


def _check(tree: Path, manifest: Manifest, start: int, size: int) -> Checked:
    damaged, done, index = [], 0, start
    while index < len(manifest) and done < size:
        entry = manifest.entry(index)
        if hash_file(f"{tree}/{entry.path}") != entry.digest:
            damaged.append(entry.path)
        done += max(1, entry.size)
        index += 1
    return Checked(index if index < len(manifest) else None, done, damaged)


def _check_packs(root: Path, manifest: Manifest, start: int, size: int) -> Checked:
    files = objects_of(manifest)
    damaged, done, index = [], 0, start % len(files)
    while index < len(files) and done < size:
        damaged += damaged_objects(root, [files[index]])
        done += max(1, files[index].size)
        index += 1
    return Checked(index if index < len(files) else None, done, damaged)


def _folders(manifest: Manifest) -> int:
    """Return the number of folders that the paths need."""
    return sum(1 for _ in folders(manifest.table.column("path").combine_chunks()))
