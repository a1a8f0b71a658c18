"""Reading a version: by path or position, from a cached tree or straight from the lake, in an order made by a seed.

The interface blocks, because loaders do. Against a store it runs its own event loop in one thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from blake3 import blake3

from millrace.datasets.fetch import check_blob, fetch_chunk, fetch_group, plan
from millrace.datasets.keys import check_project
from millrace.datasets.manifest import Entry, Manifest
from millrace.datasets.scan import scan
from millrace.errors import Corrupt, Invalid, NotFound
from millrace.objects.port import ObjectStore

T = TypeVar("T")


class Source(Protocol):
    """Where a `Dataset` gets bytes from."""

    def read_many(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the files' bytes in the order asked."""

    def close(self) -> None:
        """Let go of what is held."""


class Dataset:
    """One version, sorted by path. Use as a context manager, or call `close()`."""

    def __init__(self, paths: Sequence[str], manifest: Manifest | None, source: Source) -> None:
        self.paths = paths
        self._manifest = manifest
        self._source = source
        self._positions: dict[str, int] | None = None

    @classmethod
    def open_tree(cls, root: Path | str, manifest: Manifest | None = None) -> Self:
        """Open a version that lies as files below `root`; with a manifest every read is checked against it."""
        folder = Path(root)
        paths = manifest.paths if manifest is not None else sorted(scan(folder).paths.to_pylist())
        return cls(paths, manifest, _Tree(folder, verified=manifest is not None))

    @classmethod
    def open_store(cls, store: ObjectStore, manifest: Manifest, *, project: str) -> Self:
        """Open a version in the lake. `store` must not be in use on another event loop."""
        return cls(manifest.paths, manifest, _Lake(store, manifest, check_project(project)))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:
        return self.read_many([index])[0]

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            NotFound: the version has no such file.
        """
        if self._positions is None:
            self._positions = {name: index for index, name in enumerate(self.paths)}
        index = self._positions.get(path)
        if index is None:
            raise NotFound(f"no such file in this version: {path[:200]!r}")
        return self[index]

    def read_many(self, indices: Sequence[int]) -> list[bytes]:
        """Return the bytes of several files in the order asked; near ones share a request."""
        return self._source.read_many([self._entry(index) for index in indices])

    def _entry(self, index: int) -> Entry:
        if self._manifest is not None:
            return self._manifest.entry(index)
        if not 0 <= index < len(self.paths):
            raise IndexError(index)
        return Entry(self.paths[index], b"", 0, 0, 0, None, 0)

    def order(self, seed: int, epoch: int = 0) -> Any:
        """Return a permutation of all positions that only `seed` and `epoch` decide, whatever the library versions.

        Each position is sorted by a 64-bit key from BLAKE3 keyed with seed and epoch.
        """
        context = f"millrace-order/1:{int(seed)}:{int(epoch)}".encode()
        stream = blake3(context).digest(8 * len(self.paths)) if self.paths else b""
        return np.argsort(np.frombuffer(stream, dtype="<u8"), kind="stable")

    def samples(
        self,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
        read_ahead: int = 64,
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (path, bytes) in path order, or shuffled by `seed`.

        `start` skips that many positions of the epoch, to go on in its middle; shard (i, n) takes each n-th from the
        i-th, so that n readers together see every file once.
        """
        part, parts = shard
        if not 0 <= part < parts:
            raise Invalid("a shard is (i, n) with 0 <= i < n")
        order = range(len(self.paths)) if seed is None else self.order(seed, epoch).tolist()
        mine = [index for position, index in enumerate(order) if position >= start and position % parts == part]
        for first in range(0, len(mine), read_ahead):
            batch = mine[first : first + read_ahead]
            yield from zip((self.paths[index] for index in batch), self.read_many(batch), strict=True)

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Tree:
    """Files below a folder; links are not followed."""

    def __init__(self, root: Path, *, verified: bool) -> None:
        self._root, self._verified = os.fspath(root), verified

    def read_many(self, entries: Sequence[Entry]) -> list[bytes]:
        return [self._read(entry) for entry in entries]

    def _read(self, entry: Entry) -> bytes:
        try:
            handle = os.open(f"{self._root}/{entry.path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"cannot read {entry.path!a}: {error.strerror}") from None
        with os.fdopen(handle, "rb") as file:
            data = file.read()
        if self._verified:
            check_blob(entry, data)
        return data

    def close(self) -> None:
        return


class _Lake:
    """Blobs of the lake, each verified."""

    def __init__(self, store: ObjectStore, manifest: Manifest, project: str) -> None:
        self._store, self._manifest, self._project = store, manifest, project
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dataset-reader", daemon=True)
        self._thread.start()

    def read_many(self, entries: Sequence[Entry]) -> list[bytes]:
        return self._call(self._read_many(entries))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _read_many(self, entries: Sequence[Entry]) -> list[bytes]:
        found: dict[str, bytes] = {}
        todo = plan(self._manifest, {entry.path: entry for entry in entries}.values())
        for group in todo.groups:
            fetched = await fetch_group(self._store, self._project, group)
            for entry, content in zip(group.entries, fetched.contents, strict=True):
                check_blob(entry, content)
                found[entry.path] = bytes(content)
        for entry in todo.chunked:
            parts = [await fetch_chunk(self._store, self._project, entry, index) for index in range(len(entry.chunks))]
            found[entry.path] = b"".join(parts)
            if blake3(found[entry.path]).digest() != entry.digest:
                raise Corrupt(f"the chunks of {entry.path!a} do not make its bytes", path=entry.path)
        return [found.get(entry.path, b"") for entry in entries]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._loop.is_running():
            self._loop.close()
