"""Building versions in the lake by the kernel's dataset format, streaming from where the files landed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from ingest.application.ports import Built, Head, Landed, Landing
from ingest.domain.places import Mode
from ingest.errors import LandingChanged
from millrace.datasets.manifest import Manifest
from millrace.datasets.paths import printable
from millrace.datasets.push import extend, push_files
from millrace.datasets.sources import SourceFile
from millrace.datasets.stored import load_commit, load_manifest
from millrace.errors import Corrupt, Invalid, MillraceError, NotFound
from millrace.failpoints import fp
from millrace.objects import ObjectStore


class DatasetLake:
    """`Lake` on the lake's bucket; landed files are read through `stores(bucket)`."""

    def __init__(self, store: ObjectStore, stores: Callable[[str], ObjectStore]) -> None:
        self._store = store
        self._stores = stores

    async def build(self, project: str, landing: Landing, head: Head | None, mode: Mode) -> Built:
        """Read the landed files and write packs and manifest; memory stays near a few packs."""
        parent = await self._manifest(project, head) if head is not None else None
        files = self._sources(landing)
        await fp("commit.D2.before")
        if parent is not None and mode == "append":
            pushed = await extend(parent, files, self._store, project=project)
        else:
            pushed = await push_files(files, self._store, project=project, parent=parent)
        await fp("commit.D2.after")
        await fp("commit.D3.before")
        expected = len(landing.files)
        if pushed.files < expected or (mode == "replace" and pushed.files != expected):
            raise Corrupt(f"{pushed.files} files were written, and {expected} landed")
        await fp("commit.D3.after")
        return Built(pushed.manifest_id, pushed.tree_root, pushed.files, pushed.bytes, pushed.packs)

    async def whole(self, project: str, commit: str) -> bool:
        """Return whether the commit object and its manifest are there, with the bytes that their ids promise."""
        try:
            stored = await load_commit(self._store, project, commit)
            await load_manifest(self._store, project, stored.manifest)
        except (NotFound, Corrupt, Invalid):
            return False
        return True

    async def _manifest(self, project: str, head: Head) -> Manifest:
        stored = await load_commit(self._store, project, head.commit)
        return await load_manifest(self._store, project, stored.manifest)

    def _sources(self, landing: Landing) -> Iterator[SourceFile]:
        store = self._stores(landing.place.bucket)
        for landed in landing.files:
            yield SourceFile(landed.path, landed.size, _reader(store, landed), mtime_ns=landed.mtime_ns)


def _reader(store: ObjectStore, landed: Landed) -> Callable[[int, int], Awaitable[bytes]]:
    async def read(offset: int, length: int) -> bytes:
        try:
            if offset == 0 and length == landed.size:
                return _checked(await store.get(landed.key), landed)
            return await store.get_range(landed.key, offset, length)
        except (NotFound, Invalid) as error:
            raise _changed(landed) from error

    return read


def _checked(data: bytes, landed: Landed) -> bytes:
    if len(data) != landed.size:
        raise _changed(landed)
    return data


def _changed(landed: Landed) -> MillraceError:
    return LandingChanged(f"{printable(landed.path)} changed while it was read", hint="land data, then announce it")
