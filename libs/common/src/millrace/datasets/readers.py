"""Reading a version: by path or position, from packs or a tree near by or straight from the lake, in a seeded order.

The interface blocks, because loaders do. Against a store it runs its own event loop in one thread.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc

from millrace.datasets import loaders
from millrace.datasets.batches import Batches
from millrace.datasets.early import EarlySource
from millrace.datasets.keys import check_project
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import MANIFEST
from millrace.datasets.sample_order import Position, permutation, windowed
from millrace.datasets.sample_sources import LakeSource, PackSource, Source, TreeSource
from millrace.datasets.scan import scan
from millrace.errors import Invalid, NotFound
from millrace.objects.port import ObjectStore

BLOCK = 1_024
"""Files that stand for a pack where there are no packs: the grain of a windowed shuffle of a tree."""


class Dataset:
    """One version, sorted by path. Use as a context manager, or call `close()`."""

    def __init__(self, paths: Sequence[str] | None, manifest: Manifest | None, source: Source) -> None:
        self.manifest = manifest
        self._names = paths
        self._source = source

    @classmethod
    def open_tree(cls, root: Path | str, manifest: Manifest | None = None) -> Self:
        """Open a version that lies as files below `root`; with a manifest every read is checked against it."""
        folder = Path(root)
        paths = sorted(scan(folder).paths.to_pylist()) if manifest is None else None
        return cls(paths, manifest, TreeSource(folder, paths, manifest))

    @classmethod
    def open_packs(cls, root: Path | str) -> Self:
        """Open a version that lies as packs below `root`, as `fill_packs` leaves it.

        Raises:
            NotFound: no manifest lies there.
        """
        folder = Path(root)
        try:
            data = (folder / MANIFEST).read_bytes()
        except OSError as error:
            raise NotFound(f"{folder} holds no packs of a version: {error.strerror}") from None
        manifest = Manifest.parse(data)
        return cls(None, manifest, PackSource(folder, manifest))

    @classmethod
    def open_store(cls, store: ObjectStore, manifest: Manifest, *, project: str) -> Self:
        """Open a version in the lake. `store` must not be in use on another event loop, nor in another process."""
        pid = os.getpid()

        @asynccontextmanager
        async def borrowed() -> AsyncIterator[ObjectStore]:
            if os.getpid() != pid:
                raise Invalid("this dataset was opened before a fork", hint="open it in each worker")
            yield store

        return cls(None, manifest, LakeSource(borrowed, manifest, check_project(project)))

    def expect(self, rows: Any) -> None:
        """Say which files will be read next, as a numpy array of positions in their order.

        A copy that is still being filled has their packs fetched first; to any other it means nothing.
        """
        if isinstance(self._source, EarlySource):
            self._source.expect(rows)

    @cached_property
    def paths(self) -> Sequence[str]:
        """Return all paths, sorted."""
        if self._names is not None:
            return self._names
        assert self.manifest is not None  # noqa: S101 - one of the two is given
        return self.manifest.paths

    def __len__(self) -> int:
        return len(self._names) if self.manifest is None and self._names is not None else len(self._manifest)

    @property
    def _manifest(self) -> Manifest:
        assert self.manifest is not None  # noqa: S101 - asked only where there is one
        return self.manifest

    def __getitem__(self, index: int) -> bytes:
        return self.read_many([index])[0]

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            NotFound: the version has no such file.
        """
        index = self._position(path)
        if index is None:
            raise NotFound(f"no such file in this version: {path[:200]!r}")
        return self[index]

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Return at most `length` bytes of a file from `start`, fewer at its end. Large files are not read whole.

        Raises:
            NotFound: the version has no such file.
            Invalid: a negative start or length.
        """
        index = self._position(path)
        if index is None:
            raise NotFound(f"no such file in this version: {path[:200]!r}")
        if start < 0 or length < 0:
            raise Invalid("a range is never negative")
        if self.manifest is not None:
            length = max(0, min(length, self.manifest.entry(index).size - start))
        return self._source.read_range(index, start, length) if length else b""

    def _position(self, path: str) -> int | None:
        if self.manifest is not None:
            return self.manifest.find(path)
        return self._positions.get(path)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.paths)}

    def read_many(self, indices: Sequence[int]) -> list[bytes]:
        """Return the bytes of several files in the order asked; near ones share a read."""
        if len(indices) and not (min(indices) >= 0 and max(indices) < len(self)):
            raise IndexError(f"{min(indices)} to {max(indices)} of {len(self)} files")
        return self._source.read_rows(indices)

    def order(self, seed: int, epoch: int = 0, *, window: int | None = None) -> Any:
        """Return a permutation of all positions that only `seed` and `epoch` decide.

        With `window`, files are mixed only within so many packs at a time, which are then read one after the other.
        """
        if window is None:
            return permutation(len(self), seed, epoch)
        return windowed(self._groups, seed, epoch, window)

    @cached_property
    def _groups(self) -> Any:
        """Return each file's pack; a file without one belongs to its block."""
        blocks = -1 - np.arange(len(self), dtype=np.int64) // BLOCK
        if self.manifest is None:
            return blocks
        packs = pc.fill_null(self.manifest.table.column("pack"), -1).to_numpy()
        return np.where(packs < 0, blocks, packs)

    def batches(
        self,
        size: int = 256,
        *,
        at: Position | None = None,
        window: int | None = None,
        shard: tuple[int, int] = (0, 1),
        turn: tuple[int, int] = (0, 1),
    ) -> Batches:
        """Return an iterator over (positions, bytes of each) of at most `size` samples, from `at` to the epoch's end.

        Shard (i, n) takes each n-th sample of the one order, beginning with the i-th, so that n readers together see
        every file once. Turn (i, n) takes each n-th batch of the shard, so that n readers together see its batches as
        one reader would. The iterator's `position` is where to go on; with turns, only the one behind the last is.

        Raises:
            Invalid: shard or turn is not (i, n) with 0 <= i < n, or the size is not positive.
        """
        return Batches(self, size, at or Position(), window, shard, turn=turn)

    def samples(
        self,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        window: int | None = None,
        shard: tuple[int, int] = (0, 1),
        read_ahead: int = 256,
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (path, bytes) in path order, or shuffled by `seed`; see `batches`. `start` skips that many samples."""
        for indices, contents in self.batches(read_ahead, at=Position(seed, epoch, start), window=window, shard=shard):
            yield from zip((self.paths[index] for index in indices), contents, strict=True)

    def as_tf_data(self, *, batch: int = 256, **options: Any) -> Any:
        """Return a `tf.data.Dataset` of (path, bytes); options as for `batches`. Needs TensorFlow."""
        return loaders.as_tf_data(self, batch, **options)

    def as_torch(self, **options: Any) -> Any:
        """Return a `torch.utils.data.IterableDataset` of (path, bytes). Needs PyTorch.

        A `DataLoader` with `batch_size=batch` (256 by default) gives the same batches in the same order, however many
        workers it has.
        """
        return loaders.as_torch(self, **options)

    def as_webdataset(self, **options: Any) -> Iterator[dict[str, Any]]:
        """Yield samples as WebDataset does: files that differ only by extension are one dictionary."""
        return loaders.as_webdataset(self, **options)

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
