"""A version as plain files elsewhere: in an archive, or as objects below a prefix of somebody's own bucket.

Packs hide files from tools that know nothing of Millrace; an export shows them. Every byte is verified on its way, and
what is exported of one version is the same each time: names, modes and times come from its manifest.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blake3 import blake3

from millrace.datasets.limits import CHUNK, CHUNKED_ABOVE, MIB
from millrace.datasets.progress import Meter, ProgressCallback
from millrace.errors import Conflict, Corrupt, Forbidden, Invalid, Unavailable

if TYPE_CHECKING:
    from millrace.datasets.manifest import Entry
    from millrace.datasets.readers import Dataset

STDOUT = "-"
TAR_ENDINGS = {".tar": "w|", ".tar.gz": "w|gz", ".tgz": "w|gz"}
ZIP_ENDING = ".zip"
STORES = ("s3", "gs", "az")
READ_TOGETHER = 64 * MIB
MOST_TOGETHER = 1_024
UPLOADS = 16
OLDEST_ZIP = datetime(1980, 1, 1, tzinfo=UTC)
NEWEST_ZIP = datetime(2107, 12, 31, tzinfo=UTC)

Member = tuple["Entry", Iterator[bytes]]


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    target: str
    files: int
    bytes: int


def export(dataset: Dataset, target: str, *, progress: ProgressCallback | None = None) -> Exported:
    """Write every file of a version to `target`.

    That is `-` (a tar on standard output), a new `.zip`, `.tar`, `.tar.gz` or `.tgz`, or `s3://`, `gs://` or `az://`
    with a prefix below which nothing lies; the keys of such a bucket are those of the environment, as its own tools
    read them.

    Raises:
        Conflict: something lies there already.
        Invalid: the target is none of these.
        Corrupt: bytes in the lake do not match their digest; an archive is then not left behind.
    """
    assert dataset.manifest is not None  # noqa: S101 - a version opened by name has one
    sizes = dataset.manifest.table.column("size").to_numpy()
    meter = Meter(progress, files=dataset.manifest.files, total=int(sizes.sum()))
    members = _members(dataset, meter)
    scheme = urlsplit(target).scheme
    if scheme in STORES:
        _to_store(members, target)
    elif target == STDOUT:
        _to_tar(members, sys.stdout.buffer, "w|")
    else:
        _to_file(members, target)
    meter.finish()
    return Exported(target, dataset.manifest.files, int(sizes.sum()))


def _members(dataset: Dataset, meter: Meter) -> Iterator[Member]:
    """Yield (entry, pieces of its bytes) in path order; small files are read many at a time."""
    together: list[int] = []
    weight = 0
    assert dataset.manifest is not None  # noqa: S101 - see `export`
    for row, entry in enumerate(dataset.manifest.entries()):
        if entry.size > CHUNKED_ABOVE:
            yield from _read(dataset, together, meter)
            together, weight = [], 0
            yield entry, _large(dataset, entry, meter)
            meter.advance(files=1)
            continue
        together.append(row)
        weight += entry.size
        if weight >= READ_TOGETHER or len(together) >= MOST_TOGETHER:
            yield from _read(dataset, together, meter)
            together, weight = [], 0
    yield from _read(dataset, together, meter)


def _read(dataset: Dataset, rows: list[int], meter: Meter) -> Iterator[Member]:
    if not rows:
        return
    assert dataset.manifest is not None  # noqa: S101 - see `export`
    for row, data in zip(rows, dataset.read_many(rows), strict=True):
        yield dataset.manifest.entry(row), iter((data,))
        meter.advance(files=1, done=len(data), transferred=len(data))


def _large(dataset: Dataset, entry: Entry, meter: Meter) -> Iterator[bytes]:
    whole = blake3()
    for start in range(0, entry.size, CHUNK):
        data = dataset.read_range(entry.path, start, CHUNK)
        whole.update(data)
        meter.advance(done=len(data), transferred=len(data))
        yield data
    if whole.digest() != entry.digest:
        raise Corrupt(f"the chunks of {entry.path!a} do not make its bytes", path=entry.path)


def _to_file(members: Iterator[Member], target: str) -> None:
    name = target.lower()
    tar = next((mode for ending, mode in TAR_ENDINGS.items() if name.endswith(ending)), None)
    if tar is None and not name.endswith(ZIP_ENDING):
        endings = ", ".join((*TAR_ENDINGS, ZIP_ENDING))
        raise Invalid(
            f"{target!r} says no format",
            hint=f"end it in {endings}, or name s3://BUCKET/PREFIX; `data pull` for a folder",
        )
    with _new_file(Path(target)) as file:
        if tar is not None:
            _to_tar(members, file, tar)
        else:
            _to_zip(members, file)


@contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name when it is whole, and never takes the place of another."""
    if target.exists():
        raise Conflict(f"{target} exists already", hint="name another file")
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what comes next."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _to_tar(members: Iterator[Member], file: IO[bytes], mode: Any) -> None:
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for entry, pieces in members:
            info = tarfile.TarInfo(entry.path)
            info.size, info.mode, info.mtime = entry.size, entry.mode & 0o777, entry.mtime_ns // 10**9
            archive.addfile(info, io.BufferedReader(_Pieces(pieces)))


def _to_zip(members: Iterator[Member], file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for entry, pieces in members:
            when = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC)
            info = zipfile.ZipInfo(entry.path, min(max(when, OLDEST_ZIP), NEWEST_ZIP).timetuple()[:6])
            info.external_attr = (entry.mode & 0o777 | 0o100000) << 16
            info.file_size = entry.size
            with archive.open(info, "w", force_zip64=entry.size >= 2**31) as member:
                for piece in pieces:
                    member.write(piece)


def _to_store(members: Iterator[Member], target: str) -> None:
    import obstore
    from obstore.store import from_url

    parts = urlsplit(target)
    if not parts.netloc or not parts.path.strip("/"):
        raise Invalid(f"{target!r} names no prefix", hint="write s3://BUCKET/PREFIX")
    with _translated(target):
        store: Any = from_url(target)
        if any(page for page in obstore.list(store, chunk_size=1)):
            raise Conflict(f"something lies below {target} already", hint="name a prefix that is free")
        _upload(members, lambda path, data: obstore.put(store, path, data))


def _upload(members: Iterator[Member], put: Callable[[str, Any], object]) -> None:
    """Put small files several at once, large ones in parts."""
    with ThreadPoolExecutor(UPLOADS, thread_name_prefix="export") as pool:
        under_way: set[Future[object]] = set()
        for entry, pieces in members:
            if entry.size > CHUNKED_ABOVE:
                put(entry.path, pieces)
                continue
            under_way.add(pool.submit(put, entry.path, b"".join(pieces)))
            if len(under_way) >= 2 * UPLOADS:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        for future in under_way:
            future.result()


@contextmanager
def _translated(target: str) -> Iterator[None]:
    """Turn what the object store's library raises into our errors; its texts may hold addresses, never keys."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError, PermissionError):
        raise Forbidden(f"{target} refuses the keys of the environment") from None
    except (BaseError, FileNotFoundError, OSError, ValueError) as error:
        raise Unavailable(
            f"cannot write to {target}: {type(error).__name__}",
            hint="set its endpoint and keys in the environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, … for s3://",
        ) from error
