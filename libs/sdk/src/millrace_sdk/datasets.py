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
from millrace_sdk.discovery import Access

if TYPE_CHECKING:
    from millrace.datasets.manifest import Manifest
    from millrace_sdk.gateway_store import GatewayStore


class Dataset(KernelDataset):
    """One version of a dataset, by path or position; see `millrace.datasets.readers.Dataset`.

    It may be opened where an event loop runs (a notebook), used after a fork, and sent to another process.
    """

    origin: tuple[str | Path, str, Access] | None = None

    @classmethod
    def open(
        cls,
        ref: str | Path,
        *,
        project: str = "default",
        url: str | None = None,
        token: str | None = None,
        token_file: str | None = None,
    ) -> Self:
        """Open a folder, or the version that `NAME`, `NAME@VERSION` or `NAME@COMMIT` means.

        Address and token are found as the command line finds them, unless they are given.

        Raises:
            NotFound: no such folder, dataset or version.
            Invalid: the text names nothing.
        """
        access = Access(url, token, token_file)
        if isinstance(ref, Path) or "/" in ref:
            folder = Path(ref)
            opened = cls.open_packs(folder) if _holds_packs(folder) else cls.open_tree(folder)
            opened.origin = (folder.absolute(), project, access)
            return opened
        name, _, version = ref.partition("@")
        if not name:
            raise Invalid(f"{ref!r} names nothing", hint="write NAME, NAME@VERSION, or the path of a folder")
        thread = LoopThread()
        try:
            number, manifest = thread.call(look_up(name, version or "latest", check_project(project), access))
        finally:
            thread.close()
        opened = cls.of_manifest(name, number, manifest, project=project, access=access)
        opened.origin = (f"{name}@{number}", project, access)
        return opened

    @classmethod
    def of_manifest(cls, name: str, version: int, manifest: Manifest, *, project: str, access: Access) -> Self:
        """Open a version whose manifest, or a part of it, is at hand; nothing is asked before the first read."""
        gateway = partial(_gateway, name, version, project, access)
        return cls(None, manifest, LakeSource(gateway, manifest, project))

    def __reduce__(self) -> Any:
        """Let a loader's worker process open the same version again.

        Raises:
            TypeError: it was not opened by `open`.
        """
        if self.origin is None:
            raise TypeError("only a dataset that was opened by Dataset.open can be sent to another process")
        return _open_again, (type(self), *self.origin)


def _open_again(cls: type[Dataset], ref: str | Path, project: str, access: Access) -> Dataset:
    return cls.open(ref, project=project, url=access.url, token=access.token, token_file=access.token_file)


@asynccontextmanager
async def _gateway(name: str, version: int, project: str, access: Access) -> AsyncIterator[GatewayStore]:
    """Connect to a version's objects through the gateway."""
    from millrace_sdk.client import AsyncCatalog
    from millrace_sdk.gateway_store import GatewayStore

    async with AsyncCatalog.of(access, project=project) as catalog:
        store = GatewayStore(catalog, name, ref=version)
        try:
            yield store
        finally:
            await store.aclose()


async def look_up(name: str, version: str, project: str, access: Access) -> tuple[int, Manifest]:
    """Return the version's number and its manifest, verified."""
    from millrace_sdk.client import AsyncCatalog

    async with AsyncCatalog.of(access, project=project) as catalog:
        found = await catalog.version(name, version)
    number = int(found["version"])
    async with _gateway(name, number, project, access) as store:
        return number, await load_manifest(store, project, found["manifest"])


def _holds_packs(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / PACKS).is_dir()
