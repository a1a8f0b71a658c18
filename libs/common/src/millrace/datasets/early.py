"""Reading a copy that is still being filled: each pack as soon as it has landed, those needed next before others."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import CHUNKS, MANIFEST, PACKS
from millrace.datasets.sample_sources import READ_FLAGS, PackSource, Source
from millrace.datasets.waiting import PATIENCE_SECONDS, Filling, Waiter
from millrace.errors import NotFound

MOST_WANTED = 16
"""Packs and chunks that a reader asks for at once."""

LOOK_AHEAD = 65_536
"""Samples ahead among whose packs those are."""

OpenFallback = Callable[[Manifest], Source]


class EarlySource(PackSource):
    """Packs on a fill's shelf, or at the copy's final path, wherever each is found; what has not come is waited for.

    With a `fallback`, what has not come is read from there instead. Samples and their order are those of a whole copy.
    """

    def __init__(
        self, final: Path, shelf: Path, manifest: Manifest, waiter: Waiter, fallback: Source | None = None
    ) -> None:
        super().__init__(final, manifest)
        self._places: tuple[Path, ...] = (shelf, final)
        self._waiter, self._fallback = waiter, fallback
        self._ahead: Any = np.zeros(0, dtype=np.int64)
        self._reading = self._ahead
        self._seen: set[str] = set()

    def expect(self, rows: Any) -> None:
        """Remember which files will be read next, and say now and then which packs that needs."""
        self._ahead = rows
        if not self._complete and self._waiter.may_tell:
            needed = self._needed()
            if needed or self._waiter.untold:
                self._waiter.tell(needed)

    @property
    def _complete(self) -> bool:
        return self._places[0] == self._root

    def read_rows(self, rows: Sequence[int]) -> list[bytes]:
        """Return the files' bytes in the order asked, as soon as all are there."""
        self._reading = np.asarray(rows, dtype=np.int64)
        try:
            return self._read(rows)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        self.close_packs()  # they were taken away under us: by now others have their names, or will have
        return self._read(rows)

    def _read(self, rows: Sequence[int]) -> list[bytes]:
        if self._fallback is None or self._complete:
            return super().read_rows(rows)
        near = [row for row in rows if self._is_here(row)]
        found = dict(zip(near, super().read_rows(near), strict=True))
        far = [row for row in rows if row not in found]
        if far:
            found.update(zip(far, self._fallback.read_rows(far), strict=True))
        return [found[row] for row in rows]

    def read_range(self, row: int, start: int, length: int) -> bytes:
        """Return a part of one file."""
        self._reading = np.array([row], dtype=np.int64)
        if self._fallback is not None and not self._is_here(row):
            return self._fallback.read_range(row, start, length)
        return super().read_range(row, start, length)

    def _open_file(self, kind: str, name: str) -> int:
        found = self._look(kind, name)
        if found is not None:
            return found
        what = f"{kind.removesuffix('s')} {name}"
        return self._waiter.wait(lambda: self._look(kind, name), lambda: self._needed(name), what)

    def _look(self, kind: str, name: str) -> int | None:
        """Open a file where it lies now; None if it is nowhere."""
        for place in self._places:
            try:
                handle = os.open(place / kind / name, READ_FLAGS)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno == errno.ESTALE:
                    continue
                raise NotFound(f"cannot read {kind.removesuffix('s')} {name}: {error.strerror}") from None
            if place == self._root:
                self._places = (self._root, *(it for it in self._places if it != self._root))
            return handle
        return None

    def _needed(self, missing: str | None = None) -> list[str]:
        """Return the names of what the next samples need and has not come, in their order; `missing` is among them."""
        wanted: list[str] = []
        for kind, name in chain(self._objects(self._reading), self._objects(self._ahead[:LOOK_AHEAD])):
            if len(wanted) == MOST_WANTED:
                break
            if name not in wanted and not self._has(kind, name):
                wanted.append(name)
        return wanted if missing is None or missing in wanted else [missing, *wanted[: MOST_WANTED - 1]]

    def _objects(self, rows: Any) -> Iterator[tuple[str, str]]:
        """Yield kind and name of the packs and chunks that hold files, in the order in which they are needed."""
        packs = self._packs[rows]
        _, firsts = np.unique(np.where(packs < 0, -1 - rows, packs), return_index=True)
        for place in np.sort(firsts).tolist():
            pack, row = int(packs[place]), int(rows[place])
            if pack >= 0:
                yield PACKS, self._manifest.packs[pack].id
            else:
                yield from ((CHUNKS, chunk.hex()) for chunk in self._manifest.entry(row).chunks)

    def _is_here(self, row: int) -> bool:
        return all(self._has(kind, name) for kind, name in self._objects(np.array([row], dtype=np.int64)))

    def _has(self, kind: str, name: str) -> bool:
        if name not in self._seen and any((place / kind / name).is_file() for place in self._places):
            self._seen.add(name)
        return name in self._seen

    def close_packs(self) -> None:
        """Close the packs; they are opened again when they are needed."""
        super().close()

    def close(self) -> None:
        """Close the packs and the fallback, and let go of whoever fills."""
        self.close_packs()
        self._waiter.close()
        if self._fallback is not None:
            self._fallback.close()


def open_early(
    final: Path,
    shelf: Path,
    filling: Filling,
    *,
    patience: float = PATIENCE_SECONDS,
    fallback: OpenFallback | None = None,
) -> tuple[Manifest, EarlySource]:
    """Return the manifest of a copy and a source of its files; wait for the manifest, if it is not there yet.

    Raises:
        FillFailed, DeadlineExceeded: it will not come, or did not in time.
    """
    waiter = Waiter(filling, patience)

    def look() -> bytes | None:
        for place in (shelf, final):
            try:
                return (place / MANIFEST).read_bytes()
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ESTALE}:
                    raise NotFound(f"cannot read the manifest in {place}: {error.strerror}") from None
        return None

    data = look()
    if data is None:
        data = waiter.wait(look, list, "the manifest")
    manifest = Manifest.parse(data)
    source = None if fallback is None else fallback(manifest)
    return manifest, EarlySource(final, shelf, manifest, waiter, source)
