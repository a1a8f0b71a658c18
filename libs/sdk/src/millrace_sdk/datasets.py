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

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from millrace.datasets.early import open_early
from millrace.datasets.keys import check_project
from millrace.datasets.loop_thread import LoopThread
from millrace.datasets.pack_fill import MANIFEST, PACKS
from millrace.datasets.readers import Dataset as KernelDataset
from millrace.datasets.sample_sources import LakeSource
from millrace.datasets.stored import load_manifest
from millrace.datasets.waiting import PATIENCE_SECONDS
from millrace.errors import Invalid
from millrace_sdk.discovery import Access
from millrace_sdk.early import LeaseFilling, RunFilling, Waiting, shelf_of, version_of_run

if TYPE_CHECKING:
    from millrace.datasets.manifest import Manifest
    from millrace.datasets.sample_sources import Source
    from millrace.datasets.waiting import Filling
    from millrace_sdk.gateway_store import GatewayStore


class Dataset(KernelDataset):
    """One version of a dataset, by path or position; see `millrace.datasets.readers.Dataset`.

    It may be opened where an event loop runs (a notebook), used after a fork, and sent to another process.
    """

    origin: tuple[str | Path | Mapping[str, Any], str, Access, Waiting] | None = None

    @classmethod
    def open(
        cls,
        ref: str | Path,
        *,
        project: str = "default",
        url: str | None = None,
        token: str | None = None,
        token_file: str | None = None,
        fallback: Literal["lake"] | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> Self:
        """Open a folder, or the version that `NAME`, `NAME@VERSION` or `NAME@COMMIT` means.

        Address and token are found as the command line finds them, unless they are given. A run's input whose packs are
        still being fetched is read as they come: each is waited for `patience` seconds, or with `fallback` "lake" read
        from there instead.

        Raises:
            NotFound: no such folder, dataset or version.
            Invalid: the text names nothing.
            FillFailed, DeadlineExceeded: the copy will not come, or did not in time.
        """
        access, waiting = Access(url, token, token_file), Waiting(fallback, patience)
        if isinstance(ref, Path) or "/" in ref:
            opened = cls._open_folder(Path(ref), access, waiting)
            opened.origin = (Path(ref).absolute(), project, access, waiting)
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
        opened.origin = (f"{name}@{number}", project, access, waiting)
        return opened

    @classmethod
    def open_lease(
        cls,
        lease: Mapping[str, Any],
        *,
        project: str = "default",
        url: str | None = None,
        token: str | None = None,
        token_file: str | None = None,
        fallback: Literal["lake"] | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> Self:
        """Open the copy under a lease, as the cache manager granted it; one that is being filled is read as it comes.

        `fallback` and `patience` are those of `open`. Keeping the lease is the caller's.

        Raises:
            NotFound: no such folder.
            FillFailed, DeadlineExceeded: the copy will not come, or did not in time.
        """
        access, waiting = Access(url, token, token_file), Waiting(fallback, patience)
        if not lease.get("early"):
            opened = cls._open_folder(Path(lease["path"]), access, waiting)
        else:
            filling = LeaseFilling(str(lease["lease"]), project, access)
            known = (str(lease["dataset"]), str(lease["commit"]), project)
            opened = cls._open_early(Path(lease["path"]), Path(lease["early"]), filling, known, access, waiting)
        opened.origin = (dict(lease), project, access, waiting)
        return opened

    @classmethod
    def _open_folder(cls, folder: Path, access: Access, waiting: Waiting) -> Self:
        shelf = shelf_of(folder)
        if shelf is not None:
            known = version_of_run() if waiting.fallback else None
            return cls._open_early(folder, shelf, RunFilling(), known, access, waiting)
        return cls.open_packs(folder) if _holds_packs(folder) else cls.open_tree(folder)

    @classmethod
    def _open_early(  # noqa: PLR0917 - what there is to know
        cls,
        final: Path,
        shelf: Path,
        filling: Filling,
        known: tuple[str, int | str, str] | None,
        access: Access,
        waiting: Waiting,
    ) -> Self:
        def lake(manifest: Manifest) -> Source:
            assert known is not None  # noqa: S101 - asked only with a fallback
            name, version, project = known
            return LakeSource(partial(_gateway, name, version, project, access), manifest, project)

        fallback = lake if waiting.fallback else None
        return cls(None, *open_early(final, shelf, filling, patience=waiting.patience, fallback=fallback))

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


def _open_again(
    cls: type[Dataset], ref: str | Path | Mapping[str, Any], project: str, access: Access, waiting: Waiting
) -> Dataset:
    options: dict[str, Any] = {
        "project": project,
        "url": access.url,
        "token": access.token,
        "token_file": access.token_file,
        "fallback": waiting.fallback,
        "patience": waiting.patience,
    }
    return cls.open_lease(ref, **options) if isinstance(ref, Mapping) else cls.open(ref, **options)


@asynccontextmanager
async def _gateway(name: str, version: int | str, project: str, access: Access) -> AsyncIterator[GatewayStore]:
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
