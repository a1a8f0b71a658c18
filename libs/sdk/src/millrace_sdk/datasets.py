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

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Self

from millrace.datasets.keys import check_project
from millrace.datasets.pack_fill import MANIFEST, PACKS
from millrace.datasets.readers import Dataset as KernelDataset
from millrace.datasets.sample_sources import LakeSource
from millrace.datasets.stored import load_manifest
from millrace.errors import Invalid

if TYPE_CHECKING:
    from millrace.datasets.manifest import Manifest
    from millrace_sdk.client import AsyncCatalog
    from millrace_sdk.presigned import PresignedObjectStore


class Dataset(KernelDataset):
    """One version of a dataset, by path or position; see `millrace.datasets.readers.Dataset`."""

    @classmethod
    def open(cls, ref: str | Path, *, project: str = "default", url: str | None = None) -> Self:
        """Open a folder, or the version that `NAME`, `NAME@VERSION` or `NAME@COMMIT` means.

        Raises:
            NotFound: no such folder, dataset or version.
            Invalid: the text names nothing.
        """
        if isinstance(ref, Path) or "/" in ref:
            folder = Path(ref)
            return cls.open_packs(folder) if _holds_packs(folder) else cls.open_tree(folder)
        name, _, version = ref.partition("@")
        if not name:
            raise Invalid(f"{ref!r} names nothing", hint="write NAME, NAME@VERSION, or the path of a folder")
        return cls._from_lake(name, version or "latest", check_project(project), url)

    @classmethod
    def _from_lake(cls, name: str, version: str, project: str, url: str | None) -> Self:
        from millrace_sdk.client import AsyncCatalog
        from millrace_sdk.presigned import PresignedObjectStore

        number, manifest = asyncio.run(_look_up(name, version, project, url))
        catalog = AsyncCatalog(url, project=project)
        store = PresignedObjectStore(catalog, name, ref=number)
        return cls(None, manifest, _GatewaySource(catalog, store, manifest, project))


class _GatewaySource(LakeSource):
    """The lake through the gateway; closes the clients on the loop that used them."""

    def __init__(self, catalog: AsyncCatalog, store: PresignedObjectStore, manifest: Manifest, project: str) -> None:
        super().__init__(store, manifest, project)
        self._clients = (catalog, store)

    def close(self) -> None:
        """Close the connections and end the thread."""
        for client in self._clients:
            self._call(client.aclose())
        super().close()


async def _look_up(name: str, version: str, project: str, url: str | None) -> tuple[int, Manifest]:
    """Return the version's number and its manifest, verified."""
    from millrace_sdk.client import AsyncCatalog
    from millrace_sdk.presigned import PresignedObjectStore

    async with AsyncCatalog(url, project=project) as catalog:
        found = await catalog.version(name, version)
        store = PresignedObjectStore(catalog, name, ref=found["version"])
        try:
            return int(found["version"]), await load_manifest(store, project, found["manifest"])
        finally:
            await store.aclose()


def _holds_packs(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / PACKS).is_dir()
