"""Opening a version for reading, wherever it lies.

    from millrace_sdk import Dataset

    with Dataset.open("digits@3") as digits:
        image = digits.read("train/0/003.png")
        for path, data in digits.samples(seed=7):
            …

A folder (a run's input, a pulled copy, packs at a site) is read as it lies; a name is read from the lake through the
gateway, by joined ranges, every byte verified.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from millrace.datasets.keys import check_project
from millrace.datasets.loop_thread import LoopThread
from millrace.datasets.pack_fill import MANIFEST, PACKS
from millrace.datasets.readers import Dataset as KernelDataset
from millrace.datasets.sample_sources import LakeSource
from millrace.datasets.stored import load_manifest
from millrace.errors import Invalid

if TYPE_CHECKING:
    from millrace.datasets.manifest import Manifest
    from millrace_sdk.presigned import PresignedObjectStore


class Dataset(KernelDataset):
    """One version of a dataset, by path or position; see `millrace.datasets.readers.Dataset`.

    It may be opened where an event loop runs (a notebook), used after a fork, and sent to another process.
    """

    origin: tuple[str | Path, str, str | None] | None = None

    @classmethod
    def open(cls, ref: str | Path, *, project: str = "default", url: str | None = None) -> Self:
        """Open a folder, or the version that `NAME`, `NAME@VERSION` or `NAME@COMMIT` means.

        Raises:
            NotFound: no such folder, dataset or version.
            Invalid: the text names nothing.
        """
        if isinstance(ref, Path) or "/" in ref:
            folder = Path(ref)
            opened = cls.open_packs(folder) if _holds_packs(folder) else cls.open_tree(folder)
            opened.origin = (folder.absolute(), project, url)
            return opened
        name, _, version = ref.partition("@")
        if not name:
            raise Invalid(f"{ref!r} names nothing", hint="write NAME, NAME@VERSION, or the path of a folder")
        return cls._from_lake(name, version or "latest", check_project(project), url)

    @classmethod
    def _from_lake(cls, name: str, version: str, project: str, url: str | None) -> Self:
        thread = LoopThread()
        try:
            number, manifest = thread.call(_look_up(name, version, project, url))
        finally:
            thread.close()
        opened = cls(None, manifest, LakeSource(partial(_gateway, name, number, project, url), manifest, project))
        opened.origin = (f"{name}@{number}", project, url)
        return opened

    def __reduce__(self) -> Any:
        """Let a loader's worker process open the same version again.

        Raises:
            TypeError: it was not opened by `open`.
        """
        if self.origin is None:
            raise TypeError("only a dataset that was opened by Dataset.open can be sent to another process")
        return _open_again, (type(self), *self.origin)


def _open_again(cls: type[Dataset], ref: str | Path, project: str, url: str | None) -> Dataset:
    return cls.open(ref, project=project, url=url)


@asynccontextmanager
async def _gateway(name: str, version: int, project: str, url: str | None) -> AsyncIterator[PresignedObjectStore]:
    """Connect to a version's objects through the gateway."""
    from millrace_sdk.client import AsyncCatalog
    from millrace_sdk.presigned import PresignedObjectStore

    async with AsyncCatalog(url, project=project) as catalog:
        store = PresignedObjectStore(catalog, name, ref=version)
        try:
            yield store
        finally:
            await store.aclose()


async def _look_up(name: str, version: str, project: str, url: str | None) -> tuple[int, Manifest]:
    """Return the version's number and its manifest, verified."""
    from millrace_sdk.client import AsyncCatalog

    async with AsyncCatalog(url, project=project) as catalog:
        found = await catalog.version(name, version)
    number = int(found["version"])
    async with _gateway(name, number, project, url) as store:
        return number, await load_manifest(store, project, found["manifest"])


def _holds_packs(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / PACKS).is_dir()
