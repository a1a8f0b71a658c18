"""A folder on a person's disk that is a dataset's working copy, and what passes between it and the platform."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from millrace.errors import Conflict, Corrupt, Invalid, NotFound

if TYPE_CHECKING:
    from millrace.datasets.manifest import Manifest, ManifestDiff
    from millrace.datasets.progress import ProgressCallback
    from millrace.datasets.verify import VerifyResult
    from millrace_sdk.client import AsyncCatalog
    from millrace_sdk.presigned import PresignedObjectStore

CONFIG_FOLDER = ".millrace-data"
T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """Which dataset a folder belongs to."""

    dataset: str
    project: str = "default"


@dataclass(frozen=True)
class Synced:
    """What a sync did. `changed` is False where the folder is the head already."""

    dataset: str
    version: int
    commit: str
    files: int
    bytes: int
    uploaded_bytes: int
    changed: bool

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON types."""
        return asdict(self)


def find(start: Path) -> Path:
    """Return the working copy that `start` lies in.

    Raises:
        NotFound: there is none.
    """
    for folder in (start, *start.parents):
        if (folder / CONFIG_FOLDER / "config.json").is_file():
            return folder
    raise NotFound(f"{start} is in no dataset's folder", hint="`millrace data init NAME` makes it one")


def read(root: Path) -> Config:
    """Return the configuration of a working copy.

    Raises:
        Invalid: the file is damaged.
    """
    path = root / CONFIG_FOLDER / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Config(str(document["dataset"]), str(document.get("project", "default")))
    except (OSError, ValueError, KeyError, TypeError):
        raise Invalid(f"{path} is damaged", hint="run `millrace data init NAME` again") from None


def write(root: Path, config: Config) -> None:
    """Make a folder the working copy of a dataset.

    Raises:
        Conflict: it belongs to another dataset already.
    """
    path = root / CONFIG_FOLDER / "config.json"
    if path.is_file() and read(root) != config:
        raise Conflict(f"{root} belongs to dataset {read(root).dataset}", hint=f"remove {path.parent} to change that")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")


def cache_file(root: Path) -> Path:
    """Return where the digests of a folder's files are remembered: on this machine, never on the folder's own disk."""
    from blake3 import blake3

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "millrace" / "stat" / f"{blake3(str(root).encode()).hexdigest()[:32]}.sqlite"


class WorkingCopy:
    """A dataset's folder. The methods are coroutines; `run` runs one from synchronous code."""

    def __init__(self, root: Path, config: Config, catalog: AsyncCatalog) -> None:
        self.root = root
        self.config = config
        self._catalog = catalog

    async def sync(self, message: str, *, progress: ProgressCallback | None = None) -> Synced:
        """Push what the lake does not have and commit the folder as it is.

        Raises:
            Conflict: somebody else committed meanwhile.
        """
        from millrace.datasets.push import push
        from millrace.datasets.statcache import StatCache

        head = await self._head()
        parent = await self.manifest(head["version"]) if head else None
        store = self._store(head["version"] if head else None)
        known = StatCache(cache_file(self.root))
        try:
            pushed = await push(
                self.root, store, project=self.config.project, parent=parent, stat_cache=known, progress=progress
            )
        finally:
            known.close()
            await store.aclose()
        if head and head["tree_root"] == pushed.tree_root:
            return self._synced(head, 0, changed=False)
        body = {
            "manifest": pushed.manifest_id,
            "tree_root": pushed.tree_root,
            "files": pushed.files,
            "bytes": pushed.bytes,
            "packs": list(pushed.packs),
            "parent": head["commit"] if head else None,
            "message": message,
        }
        version = await self._catalog.commit(self.config.dataset, body)
        return self._synced(version, pushed.uploaded_bytes, changed=True)

    async def status(self) -> tuple[dict[str, Any] | None, ManifestDiff]:
        """Return the head, and how the folder differs from it. Nothing is sent."""
        from millrace.datasets.builder import ManifestBuilder

        head = await self._head()
        base = await self.manifest(head["version"]) if head else ManifestBuilder().build()
        return head, base.diff(await self.scan(base))

    async def scan(self, parent: Manifest | None = None) -> Manifest:
        """Return the manifest that the folder would have."""
        from millrace.datasets.push import push
        from millrace.datasets.statcache import StatCache

        known = StatCache(cache_file(self.root))
        store = self._store(None)
        try:
            found = await push(
                self.root, store, project=self.config.project, parent=parent, stat_cache=known, dry_run=True
            )
        finally:
            known.close()
            await store.aclose()
        return found.manifest

    async def manifest(self, ref: str | int) -> Manifest:
        """Return the manifest of a version, verified."""
        from millrace.datasets.stored import load_manifest

        version = await self._catalog.version(self.config.dataset, ref)
        store = self._store(version["version"])
        try:
            return await load_manifest(store, self.config.project, version["manifest"])
        finally:
            await store.aclose()

    async def verify(self, ref: str | int, folder: Path) -> VerifyResult:
        """Read a folder byte by byte against a version."""
        import asyncio

        from millrace.datasets.verify import verify_tree

        return await asyncio.to_thread(verify_tree, folder, await self.manifest(ref))

    async def pull(self, ref: str | int, target: Path, *, progress: ProgressCallback | None = None) -> dict[str, Any]:
        """Bring a version into a new folder, verified. It appears whole or not at all.

        Raises:
            Conflict: something lies there already.
        """
        from millrace.datasets.fill import fill
        from millrace.datasets.keys import pack_key

        _refuse_occupied(target)
        version = await self._catalog.version(self.config.dataset, ref)
        manifest = await self.manifest(version["version"])
        staging = target.with_name(f".{target.name}.partial")
        store = self._store(version["version"])
        store.expect(pack_key(self.config.project, pack.id) for pack in manifest.packs)
        try:
            done = await fill(store, manifest, staging, project=self.config.project, progress=progress)
        finally:
            await store.aclose()
        if done.tree_root != version["tree_root"]:
            raise Corrupt(f"version {version['version']} arrived with tree root {done.tree_root}")
        _publish(staging, target)
        return {"version": version["version"], "files": done.files, "bytes": done.bytes, "fetched": done.fetched_bytes}

    async def _head(self) -> dict[str, Any] | None:
        dataset = await self._catalog.dataset(self.config.dataset)
        if dataset["head"] is None:
            return None
        found: dict[str, Any] = await self._catalog.version(self.config.dataset, dataset["head"]["version"])
        return found

    def _store(self, ref: int | None) -> PresignedObjectStore:
        from millrace_sdk.presigned import PresignedObjectStore

        return PresignedObjectStore(self._catalog, self.config.dataset, ref=ref)

    def _synced(self, version: dict[str, Any], uploaded: int, *, changed: bool) -> Synced:
        return Synced(
            self.config.dataset,
            version["version"],
            version["commit"],
            version["files"],
            version["bytes"],
            uploaded,
            changed,
        )


def _refuse_occupied(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is not empty", hint="name a new folder")


def _publish(staging: Path, target: Path) -> None:
    if target.is_dir():
        target.rmdir()
    staging.rename(target)


def run(
    root: Path, config: Config, work: Callable[[WorkingCopy], Coroutine[Any, Any, T]], *, url: str | None = None
) -> T:
    """Run one piece of work on a working copy with a client of its own."""
    import asyncio

    from millrace_sdk.client import AsyncCatalog

    async def main() -> T:
        async with AsyncCatalog(url, project=config.project) as catalog:
            return await work(WorkingCopy(root, config, catalog))

    return asyncio.run(main())
