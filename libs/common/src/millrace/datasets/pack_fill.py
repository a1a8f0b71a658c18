"""Materialising a version as packs: the copy near the compute that costs no file for each sample.

    <staging>/packs/<pack>     as it lies in the lake
    <staging>/chunks/<chunk>   the chunks of large files
    <staging>/manifest         the manifest's own bytes

Landing packs is an order of magnitude cheaper than landing small files, and `Dataset.open_packs` reads them as fast.
Every pack is verified, blob by blob, before it gets its name; a second fill keeps what is good. A shelf shows what has
landed while the rest is fetched (see `shelf`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from millrace.datasets.bounded import Bounded
from millrace.datasets.buffers import Buffers
from millrace.datasets.fetch import chunk_length, plan
from millrace.datasets.folders import FOLDER_MODE, Part, explain, explained, open_root
from millrace.datasets.keys import check_project, object_key
from millrace.datasets.landing import Failpoint, FillResult, make_durable, no_failpoint
from millrace.datasets.limits import CHUNK, PACK_MAX
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack import read_pack
from millrace.datasets.progress import Meter, ProgressCallback
from millrace.datasets.shelf import Shelf
from millrace.datasets.threads import to_the_end
from millrace.datasets.turns import Turns
from millrace.errors import Corrupt, MillraceError
from millrace.objects.port import ObjectStore

PACKS, CHUNKS, MANIFEST = "packs", "chunks", "manifest"


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of such a folder: what it is, its name in the lake, and its size in bytes."""

    kind: str
    name: str
    size: int

    @property
    def path(self) -> str:
        """Return its path in the folder."""
        return MANIFEST if self.kind == MANIFEST else f"{self.kind}/{self.name}"

    def check(self, data: bytes | memoryview) -> None:
        """Raise Corrupt unless these are its bytes."""
        if self.kind == PACKS:
            _check_pack(data, pack=self.name, size=self.size)
        elif self.kind == CHUNKS:
            _check_chunk(data, chunk=self.name)
        elif blake3(data).hexdigest() != self.name:
            raise Corrupt("the manifest is damaged")


def objects_of(manifest: Manifest) -> list[PackedFile]:
    """Return the files that `fill_packs` writes for a version, in a fixed order."""
    chunks = {
        chunk.hex(): chunk_length(entry, index)
        for entry in manifest.take(plan(manifest, np.arange(manifest.files)).chunked)
        for index, chunk in enumerate(entry.chunks)
    }
    files = [PackedFile(PACKS, ref.id, ref.size) for ref in manifest.packs]
    files += [PackedFile(CHUNKS, name, size) for name, size in sorted(chunks.items())]
    stored = len(manifest.to_bytes())
    return [*files, PackedFile(MANIFEST, manifest.id, stored)]


def damaged_objects(root: Path, files: Iterable[PackedFile]) -> list[str]:
    """Return the paths of those files below `root` that are missing, or not what they should be."""
    return [item.path for item in files if not _good(root / item.path, item)]


def _good(path: Path, item: PackedFile) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as file:
        try:
            item.check(file.read(item.size + 1))
        except (MillraceError, OSError):
            return False
    return True


async def fill_packs(
    store: ObjectStore,
    manifest: Manifest,
    staging: Path,
    *,
    project: str,
    progress: ProgressCallback | None = None,
    failpoint: Failpoint | None = None,
    concurrency: int = 4,
    ancestor: Path | None = None,
    only: Collection[str] | None = None,
    shelf: Shelf | None = None,
) -> FillResult:
    """Write the packs and chunks of `manifest` below `staging`, verified and synced.

    Packs that `ancestor`, such a folder of another version, has are linked and not fetched. `only` names the files to
    write, relative to `staging`; without it all are. On `shelf` each file appears as soon as it has landed, the
    manifest first; what an earlier fill left there is verified and kept.

    Raises:
        Corrupt, NoSpace, Conflict, NotFound, Unavailable: as for `fill`.
    """
    check_project(project)
    work = _PackFill(store, manifest, staging, project, Meter(progress, files=manifest.files, total=manifest.bytes))
    work.ancestor, work.failpoint = ancestor, failpoint or no_failpoint
    work.only, work.shelf = None if only is None else frozenset(only), shelf
    try:
        with explained(staging):
            await to_the_end(work.prepare)
        return await work.run(concurrency)
    except OSError as error:
        raise explain(error, staging) from error


class _PackFill:
    """One fill under way."""

    ancestor: Path | None
    failpoint: Failpoint
    only: frozenset[str] | None
    shelf: Shelf | None

    def __init__(self, store: ObjectStore, manifest: Manifest, staging: Path, project: str, meter: Meter) -> None:
        self.store, self.manifest, self.staging, self.project, self.meter = store, manifest, staging, project, meter
        self.fetched = self.requests = self.kept = self.linked = self.linked_bytes = self.resumed = 0
        self.buffers = Buffers()

    def prepare(self) -> None:
        os.close(open_root(self.staging))
        for name in (PACKS, CHUNKS):
            (self.staging / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
        if self.shelf is not None:
            self.shelf.prepare((PACKS, CHUNKS))

    async def run(self, concurrency: int) -> FillResult:
        await self.failpoint("fill.C2.after")
        if self.only is None or MANIFEST in self.only:
            await self._manifest()
        wanted = {item.name: item for item in objects_of(self.manifest) if self._wants(item)}
        turns = Turns() if self.shelf is None else self.shelf.turns
        turns.begin(wanted)

        async def next_one() -> None:
            name = turns.take()
            if name is not None:
                await self._object(wanted[name])

        async with Bounded(concurrency) as tasks:
            for _ in range(len(wanted)):
                await tasks.start(next_one)
        await make_durable(self.staging, self.failpoint)
        self.meter.advance(files=self.manifest.files)
        self.meter.finish()
        return FillResult(
            files=self.manifest.files,
            bytes=self.manifest.bytes,
            fetched_bytes=self.fetched,
            requests=self.requests,
            kept_files=self.kept,
            tree_root=await to_the_end(lambda: self.manifest.tree_root),
            linked_files=self.linked,
            linked_bytes=self.linked_bytes,
            resumed_bytes=self.resumed,
        )

    def _wants(self, item: PackedFile) -> bool:
        return item.kind != MANIFEST and (self.only is None or item.path in self.only)

    async def _manifest(self) -> None:
        data = self.manifest.to_bytes()
        if await to_the_end(self._lent, PackedFile(MANIFEST, self.manifest.id, len(data))) is None:
            await to_the_end(self._write, self.staging / MANIFEST, data)
        if self.shelf is not None:
            await to_the_end(self.shelf.show, self.staging, MANIFEST)
            await self.shelf.opened()

    async def _object(self, item: PackedFile) -> None:
        key = object_key(self.project, "packs" if item.kind == PACKS else "chunks", item.name)
        size = await to_the_end(self._near, item)
        if size is None:
            await self.failpoint("fill.C3.before")
            await self._fetch(key, item)
            self.requests += 1
        else:
            self.meter.advance(done=size)
        if self.shelf is not None:
            await to_the_end(self.shelf.show, self.staging, item.path)

    async def _fetch(self, key: str, item: PackedFile) -> None:
        buffer = self.buffers.take(item.size)
        data = memoryview(buffer)[: item.size]
        size = await self.store.get_into(key, data)
        await self.failpoint("fill.C3.after")
        if size != item.size:
            raise Corrupt(f"{item.path} has {size} bytes in the lake and not {item.size}")
        await to_the_end(item.check, data)
        await to_the_end(self._write, self.staging / item.path, data)
        self.buffers.give(buffer)
        await self.failpoint("fill.C4.after")
        self.fetched += size
        self.meter.advance(done=size, transferred=size)

    def _near(self, item: PackedFile) -> int | None:
        """Return the size of an object that is here already, and good, or could be linked; None if it is to come."""
        target = self.staging / item.path
        if target.is_file() and not target.is_symlink() and (size := self._checked(target, item)) is not None:
            self.kept += 1
            return size
        if (size := self._lent(item)) is not None:
            self.fetched += size
            self.resumed += size
            return size
        if self.ancestor is None:
            return None
        try:
            os.link(self.ancestor / item.path, target, follow_symlinks=False)
        except OSError:
            return None
        size = target.stat().st_size
        self.linked += 1
        self.linked_bytes += size
        return size

    def _lent(self, item: PackedFile) -> int | None:
        """Return the size of what an earlier fill left on the shelf, if it is good; what is not is dropped."""
        target = self.staging / item.path
        if self.shelf is None or not self.shelf.lend(item.path, target):
            return None
        size = self._checked(target, item)
        if size is None:
            self.shelf.drop(item.path)
        return size

    def _checked(self, target: Path, item: PackedFile) -> int | None:
        """Return the size of a file that is as it should be; any other is removed."""
        data = target.read_bytes()
        try:
            item.check(data)
        except MillraceError:
            target.unlink()
            return None
        return len(data)

    def _write(self, target: Path, data: bytes | memoryview) -> None:
        parent = open_root(target.parent)
        part = Part(parent, target.name)
        try:
            part.write(data)
            part.publish()
        finally:
            part.close()
            os.close(parent)


def _check_pack(data: bytes | memoryview, *, pack: str, size: int) -> None:
    if len(data) != size or size > PACK_MAX:
        raise Corrupt(f"pack {pack} has {len(data)} bytes and not {size}")
    read_pack(data, expect=pack)


def _check_chunk(data: bytes | memoryview, *, chunk: str) -> None:
    if len(data) > CHUNK or blake3(data).hexdigest() != chunk:
        raise Corrupt(f"chunk {chunk} does not have the bytes that its name promises")
