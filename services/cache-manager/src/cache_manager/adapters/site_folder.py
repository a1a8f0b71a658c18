"""The directory of one site, worked on in threads of its own, so that an export that hangs stops nothing else.

<root>/.millrace-site               whose directory this is
<root>/v/<project>/<copy>/          a published tree, with `_READY` at its top
<root>/.staging/<entry>.<token>/    being built by the holder of that token
<root>/.early/<entry>/              packs that have landed, for those who read before all have
<root>/.trash/<entry>.<id>/         left its final path, waits to be deleted
<root>/.quarantine/<entry>.<id>/    files that were found damaged, kept for whoever wants to know why
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cache_manager.adapters import site_disk as disk
from cache_manager.application.site_ports import Found, Marker
from cache_manager.domain.charge import Charge
from cache_manager.domain.names import EntryKey
from cache_manager.errors import SiteInvalid
from millrace.clock import new_id
from millrace.errors import DeadlineExceeded
from millrace.proximity import Proximity, probe

T = TypeVar("T")

QUICK_SECONDS = 10.0
LONG_SECONDS = 6 * 3_600.0
THREADS = 8
AREAS = (disk.STAGING, disk.TRASH, disk.QUARANTINE, disk.EARLY)

_MARKER: TypeAdapter[Marker] = TypeAdapter(Marker)


class DiskSite:
    """`SiteFolder` on a mounted directory. Needs `close()` at the end."""

    def __init__(self, site: str, root: Path) -> None:
        self.site = site
        self.root = root
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix=f"site-{site}")
        self._looked: tuple[float, asyncio.Future[str | None]] | None = None

    def close(self) -> None:
        """Let go of the threads; one that hangs in the file system is left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def prepare(self) -> None:
        """Create what is missing, and mark the directory as this site's."""
        problem = await self._run(lambda: disk.prepare(self.root, self.site))
        if problem is not None:
            raise SiteInvalid(problem, hint="give each site a directory of its own")

    async def retire(self) -> None:
        """Take the mark away and what is empty: the directory is nobody's then."""
        await self._run(lambda: disk.retire(self.root, self.site))

    async def problem(self, *, within: float = 0.0) -> str | None:
        """Return why the site cannot be used now, or None, as was found up to `within` seconds ago."""
        now = asyncio.get_running_loop().time()
        if self._looked is None or now - self._looked[0] >= within:
            self._looked = (now, asyncio.ensure_future(self._look()))
        return await asyncio.shield(self._looked[1])

    async def _look(self) -> str | None:
        try:
            owner = await self._run(lambda: disk.read_owner(self.root), seconds=3.0)
        except OSError as error:
            return f"{self.root} cannot be read: {error.strerror}"
        except DeadlineExceeded:
            return f"{self.root} does not answer"
        if owner is None:
            return (
                f"{self.root} is not marked as this site: is the export mounted? (If it is new, define the site again.)"
            )
        return None if owner == self.site else f"{self.root} belongs to site {owner}"

    def path(self, key: EntryKey) -> Path:
        """Return the final path of an entry's tree."""
        return self.root / disk.VERSIONS / key.project / key.copy

    def staging(self, key: EntryKey, token: int) -> Path:
        """Return where the holder of `token` builds the tree."""
        return self.root / disk.STAGING / f"{key.id}.{token}"

    def shelf(self, key: EntryKey) -> Path:
        """Return where the packs of an entry are shown while it is filled, whoever fills it."""
        return self.root / disk.EARLY / key.id

    async def hide(self, key: EntryKey) -> None:
        """Delete the shelf of an entry, if there is one; files that have another name stay."""
        await self._run(lambda: disk.delete(self.shelf(key)), seconds=LONG_SECONDS)

    async def begin(self, key: EntryKey) -> None:
        """Delete what earlier owners of the entry left in staging; the shelf stays."""
        await self._delete_of(key, disk.STAGING)

    async def resume(self, key: EntryKey, token: int) -> int:
        """Take what earlier owners of the entry left in staging into this token's folder; return how many files.

        Each of their folders is renamed first, so that who built it and still lives does not find it any more. One that
        another manager left half taken is there under such a name, and is taken like the others.
        """

        def work() -> int:
            target, moved = self.staging(key, token), 0
            for name in self._of(key, disk.STAGING):
                spent = target.with_name(f"{key.id}.{new_id()}")
                if name != target.name and disk.rename(target.with_name(name), spent):
                    moved += disk.take_over(spent, target)
                    disk.delete(spent)
            return moved

        return await self._run(work, seconds=LONG_SECONDS)

    async def seal(self, key: EntryKey, token: int, marker: Marker) -> None:
        """Write `_READY` into the staged tree, durably."""
        data = json.dumps(asdict(marker), sort_keys=True).encode()
        await self._run(lambda: disk.write_durably(self.staging(key, token) / disk.MARKER, data))

    async def publish(self, key: EntryKey, token: int) -> None:
        """Rename the staged tree to its final path, which must be free."""

        def work() -> None:
            disk.make_parents(self.path(key))
            self.staging(key, token).rename(self.path(key))

        await self._run(work)

    async def sync_parent(self, key: EntryKey) -> None:
        """Make the rename durable."""

        def work() -> None:
            disk.sync_folder(self.path(key).parent)
            disk.sync_folder(self.root / disk.STAGING)

        await self._run(work)

    async def marker(self, key: EntryKey) -> Marker | None:
        """Return what the tree at the final path claims, or None if there is none that claims to be whole."""

        def work() -> Marker | None:
            path = self.path(key) / disk.MARKER
            disk.look_again(self.root, path)
            return _parse(disk.read_json(path))

        return await self._run(work)

    async def discard(self, key: EntryKey) -> None:
        """Delete every staging folder of an entry, and its shelf."""
        await self._delete_of(key, disk.STAGING)
        await self.hide(key)

    async def link(self, key: EntryKey, token: int) -> None:
        """Give the staging folder hard links to the files of the tree at the final path, if there is one."""

        def work() -> None:
            disk.look_again(self.root, self.path(key))
            if self.path(key).is_dir():
                disk.link_tree(self.path(key), self.staging(key, token))

        await self._run(work, seconds=LONG_SECONDS)

    async def probe(self) -> Proximity | None:
        """Measure how fast published files are read here, within bounds; None if there are none."""
        return await self._run(lambda: probe(self.root / disk.VERSIONS), seconds=60.0)

    async def weigh(self, key: EntryKey, paths: Sequence[str]) -> Charge:
        """Return the room that those of the files at `paths` take which are there."""
        return Charge(*await self._run(lambda: disk.weigh(self.path(key), paths), seconds=LONG_SECONDS))

    async def set_aside(self, key: EntryKey, paths: Sequence[str], *, keep: bool) -> None:
        """Move files of the tree at the final path into the quarantine, or delete them."""
        target = self.root / disk.QUARANTINE / f"{key.id}.{new_id()}" if keep else None
        await self._run(lambda: disk.set_aside(self.path(key), paths, target), seconds=LONG_SECONDS)

    async def put_back(self, key: EntryKey, token: int) -> None:
        """Move the staged files of `token` to their places in the tree at the final path, each at once, durably."""
        await self._run(lambda: disk.put_back(self.staging(key, token), self.path(key)), seconds=LONG_SECONDS)

    async def forget_aside(self, key: EntryKey) -> None:
        """Delete what the quarantine holds of an entry."""
        await self._delete_of(key, disk.QUARANTINE)

    async def holds(self, path: str) -> bool:
        """Return whether `path` is a folder that this process can read, outside of what the site manages itself."""
        return await self._run(lambda: disk.foreign_folder(Path(path), self.root))

    async def link_from(self, path: str, key: EntryKey, token: int) -> None:
        """Give the staging folder hard links to the files of a folder; what cannot be linked is left out."""
        target = self.staging(key, token)
        await self._run(lambda: disk.link_tree(Path(path), target, tolerant=True), seconds=LONG_SECONDS)

    async def protect(self, key: EntryKey, token: int) -> None:
        """Make the staged files read-only, under whatever other names they have, too."""
        await self._run(lambda: disk.protect(self.staging(key, token)), seconds=LONG_SECONDS)

    async def trash(self, key: EntryKey) -> bool:
        """Rename the tree at the final path into the trash; False if there is none."""
        target = self.root / disk.TRASH / f"{key.id}.{new_id()}"

        def work() -> bool:
            disk.look_again(self.root, self.path(key))
            return disk.rename(self.path(key), target)

        return await self._run(work)

    async def restore(self, key: EntryKey) -> bool:
        """Rename the newest whole tree of an entry from the trash to the final path; False if there is none."""

        def work() -> bool:
            disk.look_again(self.root, self.path(key))
            for name in reversed(self._of(key, disk.TRASH)):
                kept = self.root / disk.TRASH / name
                if disk.read_json(kept / disk.MARKER) is not None and not self.path(key).exists():
                    return disk.rename(kept, self.path(key))
            return False

        return await self._run(work)

    async def empty(self, key: EntryKey) -> None:
        """Delete what the trash holds of an entry."""
        await self._delete_of(key, disk.TRASH)

    async def remove(self, area: str, name: str) -> None:
        """Delete one name of `.staging`, `.trash`, `.quarantine` or `.early`."""
        if area not in {disk.STAGING, disk.TRASH, disk.QUARANTINE, disk.EARLY} or "/" in name or name in {".", ".."}:
            raise SiteInvalid(f"nothing is removed from {area[:40]!r}")
        await self._run(lambda: disk.delete(self.root / area / name), seconds=LONG_SECONDS)

    async def found(self) -> Found:
        """List what lies on the site."""

        def work() -> Found:
            versions = self.root / disk.VERSIONS
            trees = [(project, copy) for project in disk.names(versions) for copy in disk.names(versions / project)]
            areas = [disk.names(self.root / area) for area in AREAS]
            return Found(trees, *areas)

        return await self._run(work)

    async def measure(self, key: EntryKey) -> tuple[int, int]:
        """Return files and bytes below the final path, the marker left out."""
        return await self._run(lambda: disk.measure(self.path(key)), seconds=LONG_SECONDS)

    def _of(self, key: EntryKey, area: str) -> list[str]:
        return [name for name in disk.names(self.root / area) if name.rpartition(".")[0] == key.id]

    async def _delete_of(self, key: EntryKey, area: str) -> None:
        def work() -> None:
            for name in self._of(key, area):
                disk.delete(self.root / area / name)

        await self._run(work, seconds=LONG_SECONDS)

    async def _run(self, work: Callable[[], T], *, seconds: float = QUICK_SECONDS) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError:
            raise DeadlineExceeded(f"{self.root} did not answer within {seconds:g} s") from None


def _parse(document: dict[str, Any] | None) -> Marker | None:
    try:
        return None if document is None else _MARKER.validate_python(document)
    except ValidationError:
        return None
