"""A folder on a person's disk that is a dataset's working copy, and what passes between it and the platform."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from millrace.clock import SystemClock
from millrace.errors import Conflict, Corrupt, Invalid, NotFound
from millrace_sdk import placing
from millrace_sdk.remembered import cache_file, rate, remember_rate

if TYPE_CHECKING:
    from millrace.datasets.ancestor import Ancestor
    from millrace.datasets.lake_verify import LakeResult
    from millrace.datasets.landing import FillResult
    from millrace.datasets.manifest import Manifest, ManifestDiff
    from millrace.datasets.progress import ProgressCallback
    from millrace.datasets.push import PushResult
    from millrace.datasets.verify import VerifyResult
    from millrace_sdk.client import AsyncCatalog
    from millrace_sdk.gateway_store import GatewayStore
    from millrace_sdk.selection import Skip

CONFIG_FOLDER = ".millrace-data"
T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """Which dataset a folder belongs to."""

    dataset: str
    project: str = "default"


@dataclass(frozen=True)
class Plan:
    """What a sync would send: bytes, PUT requests, and seconds at the rate of the last sync (None before the first)."""

    bytes: int
    requests: int
    seconds: float | None


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


class WorkingCopy:
    """A dataset's folder. The methods are coroutines; `run` runs one from synchronous code."""

    def __init__(self, root: Path, config: Config, catalog: AsyncCatalog) -> None:
        self.root = root
        self.config = config
        self._catalog = catalog

    async def sync(
        self,
        message: str,
        *,
        progress: ProgressCallback | None = None,
        skip: Skip | None = None,
        lineage: Mapping[str, str] | None = None,
    ) -> Synced:
        """Push what the lake does not have and commit the folder as it is, but for what `skip` leaves out.

        What the lake lost since it was asked for, to garbage collection, is pushed again, once.

        Raises:
            Conflict: somebody else committed meanwhile.
        """
        try:
            return await self._sync(message, progress, skip, lineage)
        except Invalid as error:
            if "missing" not in error.context:
                raise
            return await self._sync(message, progress, skip, lineage)

    async def _sync(
        self,
        message: str,
        progress: ProgressCallback | None,
        skip: Skip | None,
        lineage: Mapping[str, str] | None,
    ) -> Synced:
        dataset = await self._catalog.dataset(self.config.dataset)
        head = await self._head(dataset)
        parent = await self.manifest(head["version"]) if head else None
        attested = await self._checked(parent, skip) if dataset.get("checks") else {}
        began = SystemClock().monotonic()
        pushed = await self._push(head, parent, skip, progress=progress)
        remember_rate(self.root, pushed.uploaded_bytes, SystemClock().monotonic() - began)
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
            "lineage": dict(lineage or {}),
            **({"attested": attested} if attested else {}),
        }
        version = await self._catalog.commit(self.config.dataset, body)
        return self._synced(version, pushed.uploaded_bytes, changed=True)

    async def _push(
        self, head: Any, parent: Manifest | None, skip: Skip | None, *, progress: Any = None, dry_run: bool = False
    ) -> PushResult:
        from millrace.datasets.push import push
        from millrace.datasets.statcache import StatCache

        store = self._store(head["version"] if head and not dry_run else None)
        known = StatCache(cache_file(self.root))
        try:
            return await push(
                self.root,
                store,
                project=self.config.project,
                parent=parent,
                stat_cache=known,
                progress=progress,
                dry_run=dry_run,
                skip=skip,
            )
        finally:
            known.close()
            await store.aclose()

    async def _checked(self, parent: Manifest | None, skip: Skip | None) -> dict[str, str]:
        """Run what the dataset demands on the folder, before anything is sent; return what is to be attested."""
        import asyncio

        from millrace.checks.document import checks_from
        from millrace_sdk.checking import check_folder

        found = await self._catalog.checks(self.config.dataset)
        checks = checks_from({"checks": found["checks"]})
        pushed = await self._push(None, parent, skip, dry_run=True)
        return await asyncio.to_thread(check_folder, checks, self.root, pushed.manifest)

    async def status(self, *, skip: Skip | None = None) -> tuple[dict[str, Any] | None, ManifestDiff]:
        """Return the head, and how the folder differs from it. Nothing is sent."""
        head, found, _ = await self.plan(skip=skip)
        return head, found

    async def plan(self, *, skip: Skip | None = None) -> tuple[dict[str, Any] | None, ManifestDiff, Plan]:
        """Return the head, how the folder differs from it, and what a sync would cost. Nothing is sent."""
        from millrace.datasets.builder import ManifestBuilder
        from millrace.datasets.stored import stored_sizes

        head = await self._head()
        base = await self.manifest(head["version"]) if head else ManifestBuilder().build()
        pushed = await self._push(head, base if head else None, skip, dry_run=True)
        about = stored_sizes(pushed.manifest) if pushed.changed else []
        objects = len(pushed.packs) + len(pushed.chunks) + len(about)
        speed = rate(self.root)
        size = pushed.uploaded_bytes + sum(about)
        plan = Plan(size, objects, size / speed if speed else None)
        return head, base.diff(pushed.manifest), plan

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

    async def verify_lake(self, ref: str | int, *, progress: ProgressCallback | None = None) -> LakeResult:
        """Read a version in the lake byte by byte."""
        from millrace.datasets.keys import pack_key
        from millrace.datasets.lake_verify import verify_lake

        version = await self._catalog.version(self.config.dataset, ref)
        manifest = await self.manifest(version["version"])
        store = self._store(version["version"])
        store.expect(pack_key(self.config.project, pack.id) for pack in manifest.packs)
        try:
            return await verify_lake(store, manifest, project=self.config.project, progress=progress)
        finally:
            await store.aclose()

    async def pull(
        self,
        ref: str | int,
        target: Path,
        *,
        progress: ProgressCallback | None = None,
        wanted: Callable[[str], bool] | None = None,
    ) -> dict[str, Any]:
        """Bring a version, or what of it is `wanted`, into a new folder, verified. It appears whole or not at all.

        Raises:
            Conflict: something lies there already.
            NotFound: no file of the version is wanted.
        """
        placing.refuse_occupied(target)
        version = await self._catalog.version(self.config.dataset, ref)
        manifest = await self.manifest(version["version"])
        if wanted is not None:
            manifest = _only(manifest, wanted)
        done = await self._fill(version, manifest, target, progress, whole=wanted is None)
        placing.publish(placing.staging(target), target)
        return {"version": version["version"], "files": done.files, "bytes": done.bytes, "fetched": done.fetched_bytes}

    async def follow(
        self, commit: str, target: Path, *, force: bool = False, progress: ProgressCallback | None = None
    ) -> dict[str, Any]:
        """Let a folder be that very version: made, left alone, or changed from the version that was pulled before.

        Raises:
            Conflict: files in it were changed by hand, or it was not pulled from this dataset.
        """
        version = await self._catalog.version(self.config.dataset, commit)
        facts = {"version": version["version"], "commit": version["commit"], "files": version["files"]}
        before = placing.pulled(target)
        near = None
        if placing.occupied(target):
            if before is None or before.get("dataset") != self.config.dataset:
                raise Conflict(f"{target} was not pulled from {self.config.dataset}", hint="move it away first")
            near = await self._unchanged(target, str(before["commit"]), force=force)
            if before["commit"] == version["commit"]:
                return {**facts, "changed": False, "fetched": 0}
        manifest = await self.manifest(version["version"])
        done = await self._fill(version, manifest, target, progress, whole=True, near=near)
        placing.mark_pulled(
            placing.staging(target),
            dataset=self.config.dataset,
            project=self.config.project,
            commit=version["commit"],
        )
        placing.replace(placing.staging(target), target)
        return {**facts, "changed": True, "fetched": done.fetched_bytes}

    async def _unchanged(self, target: Path, commit: str, *, force: bool) -> Ancestor | None:
        """Return the folder as something to link from, if it still is the version that was pulled."""
        from millrace.datasets.ancestor import Ancestor

        manifest = await self.manifest(commit)
        found = await self.verify(commit, target)
        if found.clean:
            return Ancestor(target, manifest)
        if not force:
            changed = (*found.damaged, *found.extra, *found.missing)[:3]
            raise Conflict(
                f"{target} was changed since it was pulled: {', '.join(map(ascii, changed))}",
                hint="`--force` throws the changes away",
            )
        return None

    async def _fill(
        self,
        version: dict[str, Any],
        manifest: Manifest,
        target: Path,
        progress: ProgressCallback | None,
        *,
        whole: bool,
        near: Ancestor | None = None,
    ) -> FillResult:
        from millrace.datasets.fill import fill
        from millrace.datasets.keys import pack_key

        store = self._store(version["version"])
        store.expect(pack_key(self.config.project, pack.id) for pack in manifest.packs)
        try:
            done = await fill(
                store, manifest, placing.staging(target), project=self.config.project, progress=progress, ancestor=near
            )
        finally:
            await store.aclose()
        if whole and done.tree_root != version["tree_root"]:
            raise Corrupt(f"version {version['version']} arrived with tree root {done.tree_root}")
        return done

    async def _head(self, dataset: dict[str, Any] | None = None) -> dict[str, Any] | None:
        dataset = dataset or await self._catalog.dataset(self.config.dataset)
        if dataset["head"] is None:
            return None
        found: dict[str, Any] = await self._catalog.version(self.config.dataset, dataset["head"]["version"])
        return found

    def _store(self, ref: int | None) -> GatewayStore:
        from millrace_sdk.gateway_store import GatewayStore

        return GatewayStore(self._catalog, self.config.dataset, ref=ref)

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


def _only(manifest: Manifest, wanted: Callable[[str], bool]) -> Manifest:
    from millrace.datasets.builder import subset

    rows = [row for row, path in enumerate(manifest.paths) if wanted(path)]
    if not rows:
        raise NotFound("no file of the version matches", hint="patterns are those of .gitignore")
    return subset(manifest, rows)


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
