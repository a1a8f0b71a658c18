"""A Kedro dataset on a version: loaded as a reader, a folder or a table, and saved as the next version.

    # catalog.yml
    scans:
      type: millrace_sdk.integrations.kedro.MillraceDataset
      dataset: scans@3
    visits:
      type: millrace_sdk.integrations.kedro.MillraceDataset
      dataset: people
      load_as: table
      path: visits.parquet
      credentials: millrace

Needs the extra `millrace-sdk[kedro]`; tables as pandas frames need pandas.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

from kedro.io.core import AbstractVersionedDataset, Version

from millrace.datasets.keys import check_project
from millrace.datasets.loop_thread import LoopThread
from millrace.datasets.sources import SourceFile
from millrace.errors import Invalid, NotFound
from millrace_sdk.client import AsyncCatalog, Catalog
from millrace_sdk.committing import Change, Mode, commit_files, ensure_dataset
from millrace_sdk.datasets import Dataset
from millrace_sdk.discovery import Access

if TYPE_CHECKING:
    from millrace_sdk.folder import WorkingCopy

T = TypeVar("T")
Form = Literal["dataset", "folder", "table"]
TABLE = "table.parquet"
_RUN = re.compile(r"\d{4}-\d\d-\d\dT")
"""How the names of Kedro's runs begin; no number and no commit of ours does."""


class MillraceDataset(AbstractVersionedDataset[Any, Any]):  # type: ignore[misc]
    """A dataset of the platform in a Kedro catalog. Picklable, so that `ParallelRunner` may use it.

    Args:
        dataset: `NAME`, `NAME@VERSION` or `NAME@COMMIT`; the newest version without more.
        project: the tenancy it belongs to.
        load_as: `dataset`: the opened reader; `folder`: a folder with the files; `table`: a pandas frame.
        path: the table inside of the version, or a pattern of several (`parts/*.parquet`); what a frame is saved as.
        folder: where `load_as: folder` puts the files. A version that is there already is not fetched again.
        mode: whether a save replaces the files of the newest version, or is put on top of them (`append`).
        message: of the versions that are saved.
        lineage: further facts of the versions that are saved: `source`, `run`, `code`.
        version: Kedro's own. Its `save` becomes the lineage's `run`, its `load` names a Millrace version, or the run
            that saved one: `--load-versions scans:3` or `scans:2026-11-25T10.00.00.000Z`.
        credentials: `url`, and `token_file` or `token`; what is left out is found as the command line finds it.
        metadata: Kedro ignores it, and so does this.

    Raises:
        Invalid: an argument that cannot be.
    """

    versioned: ClassVar[bool] = True
    """Kedro hands a version to every one of them, as it cannot have others."""

    def __init__(
        self,
        *,
        dataset: str,
        project: str = "default",
        load_as: Form = "dataset",
        path: str | None = None,
        folder: str | None = None,
        mode: Mode = "replace",
        message: str = "",
        lineage: Mapping[str, str] | None = None,
        version: Version | None = None,
        credentials: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(PurePosixPath(dataset), version)
        self._name, _, wanted = dataset.partition("@")
        if not self._name or "/" in dataset:
            raise Invalid(f"{dataset!r} names no dataset", hint="write NAME or NAME@VERSION")
        self._wanted = "" if wanted == "latest" else wanted
        _one_of("load_as", load_as, get_args(Form))
        _one_of("mode", mode, get_args(Mode))
        if load_as == "folder" and folder is None:
            raise Invalid("load_as: folder needs `folder`, where the files shall lie")
        if load_as == "table" and path is None:
            raise Invalid("load_as: table needs `path`, which table of the version is meant")
        self._project = check_project(project)
        self._form, self._path, self._folder = load_as, path, folder
        self._change = Change(mode, message, {"source": "kedro", **(lineage or {})})
        self._access = _access(credentials or {})
        self._saved: int | None = None
        self._opened: Dataset | None = None
        self.metadata = metadata

    def load(self) -> Any:
        """Return the version in the form that was asked for.

        Raises:
            NotFound: no such version, or no such table in it.
        """
        if self._form == "folder":
            return self._as_folder()
        reader = self._reader()
        if self._form == "dataset":
            self._release()
            self._opened = reader
            return reader
        with closing(reader):
            from millrace_sdk import tables

            return tables.read(reader, self._path or "").to_pandas()

    def save(self, data: Any) -> None:
        """Commit a version: of a folder (a path), of files (path → bytes, text or frame), or of one frame.

        Raises:
            Invalid: other data.
            Refused: bad or clashing paths.
            Conflict: others commit all the time.
        """
        if self._wanted:
            raise Invalid(f"{self._name}@{self._wanted} is a version, which never changes", hint="save to the dataset")
        run = self.resolve_save_version()
        lineage = {**({"run": _run_of(run)} if run else {}), **self._change.lineage}
        change = Change(self._change.mode, self._change.message, lineage)
        if isinstance(data, str | Path):
            made = self._commit_folder(Path(data), change)
        else:
            files = list(_files(data, self._path))
            made = self._run(lambda catalog: commit_files(catalog, self._name, files, change))["version"]
        self._saved = int(made)

    def resolve_load_version(self) -> str | None:
        """Return what Kedro calls the version that a load takes: its pin, what it just saved, else ours."""
        if self._version is None:
            return None
        return self._version.load or (self._version.save if self._saved else self._reference())

    def resolve_save_version(self) -> str | None:
        """Return what Kedro calls its next save; the version's number is the server's to give."""
        return None if self._version is None else self._version.save

    def list_versions(self, full_path: bool = True) -> list[str]:
        """Return all versions, newest first, as numbers or as `NAME@NUMBER`."""
        found = [str(version["version"]) for version in self._versions()]
        return [f"{self._name}@{number}" for number in found] if full_path else found

    def _reference(self) -> str:
        """Return which version a load takes, as the platform calls it.

        Raises:
            NotFound: Kedro's pin names a run that saved none.
        """
        pinned = str(self._version.load) if self._version is not None and self._version.load else ""
        if not _RUN.match(pinned):
            return pinned or self._wanted or str(self._saved or "latest")
        for version in self._versions():
            if version["lineage"].get("run") == _run_of(pinned):
                return str(version["version"])
        raise NotFound(f"no version of {self._name} was saved by the run {pinned}")

    def _versions(self) -> Iterator[dict[str, Any]]:
        after = None
        with Catalog.of(self._access, project=self._project) as catalog:
            while True:
                page = catalog.versions(self._name, limit=100, after=after)
                yield from page["items"]
                if (after := page["next"]) is None:
                    return

    def _reader(self) -> Dataset:
        access = self._access
        return Dataset.open(
            f"{self._name}@{self._reference()}",
            project=self._project,
            url=access.url,
            token=access.token,
            token_file=access.token_file,
        )

    def _as_folder(self) -> Path:
        target = Path(self._folder or "").absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        wanted = self._reference()

        async def follow(catalog: AsyncCatalog) -> Any:
            version = await catalog.version(self._name, wanted)
            return await self._copy_in(target, catalog).follow(version["commit"], target)

        self._run(follow)
        return target

    def _commit_folder(self, root: Path, change: Change) -> int:
        if change.mode == "append":
            raise Invalid("a folder is saved whole", hint="mode: replace, or save a dictionary of path → bytes")

        where = root.absolute()

        async def sync(catalog: AsyncCatalog) -> int:
            await ensure_dataset(catalog, self._name)
            return (await self._copy_in(where, catalog).sync(change.message, lineage=change.lineage)).version

        return self._run(sync)

    def _copy_in(self, root: Path, catalog: AsyncCatalog) -> WorkingCopy:
        from millrace_sdk.folder import Config, WorkingCopy

        return WorkingCopy(root, Config(self._name, self._project), catalog)

    def _run(self, work: Callable[[AsyncCatalog], Awaitable[T]]) -> T:
        async def main() -> T:
            async with AsyncCatalog.of(self._access, project=self._project) as catalog:
                return await work(catalog)

        thread = LoopThread()  # a notebook's loop may run in this one
        try:
            return thread.call(main())
        finally:
            thread.close()

    def _exists(self) -> bool:
        with Catalog.of(self._access, project=self._project) as catalog:
            try:
                catalog.version(self._name, self._reference())
            except NotFound:
                return False
            return True

    def _release(self) -> None:
        super()._release()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _describe(self) -> dict[str, Any]:
        told = {"path": self._path, "folder": self._folder, "url": self._access.url}
        return {
            "dataset": self._name,
            "version": self.resolve_load_version() or self._wanted or "latest",
            "project": self._project,
            "load_as": self._form,
            "mode": self._change.mode,
        } | {name: value for name, value in told.items() if value is not None}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open reader behind: another process opens its own."""
        return self.__dict__ | {"_opened": None}


def _run_of(name: str) -> str:
    """Return how a version's lineage names a run of Kedro."""
    return f"kedro:{name}"


def _access(credentials: Mapping[str, str]) -> Access:
    if strange := set(credentials) - {"url", "token", "token_file"}:
        raise Invalid(f"credentials know no {min(strange)!r}", hint="url, token_file or token")
    return Access(**credentials)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise Invalid(f"{name}: {value!r} is not one of {', '.join(known)}")


def _files(data: Any, path: str | None) -> Iterator[SourceFile]:
    """Yield the files of what a node returned, in path order."""
    if not isinstance(data, Mapping):
        data = {path or TABLE: data}
    for name in sorted(data):
        yield SourceFile.of_bytes(name, _bytes(name, data[name]))


def _bytes(path: str, value: Any) -> bytes:
    import pyarrow as pa

    from millrace_sdk import tables

    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if hasattr(value, "to_parquet"):
        value = pa.Table.from_pandas(value)
    if not isinstance(value, pa.Table):
        raise Invalid(f"{path!a} is neither bytes nor text nor a table: {type(value).__name__}")
    if not path.lower().endswith(".parquet"):
        raise Invalid(f"a table is saved as Parquet, and {path!a} says something else", hint="path: NAME.parquet")
    return tables.parquet(value)
