"""Archives: every member is judged by its header before a byte is kept, and kept in a spool, never under its name.

What cannot be in a version (links, devices, absolute or climbing paths, clashes) and what is made to hurt (bombs,
sparse files, archives in archives, encryption) is refused, and with it the whole archive.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Self

import pyarrow as pa

from ingest.adapters.sniff import container
from ingest.adapters.spool import Span, Spool
from ingest.application.ports import Bounds
from ingest.domain.names import named
from ingest.errors import ArchiveRefused, LandingTooLarge, NothingLanded
from millrace.datasets.paths import collisions, fold, normalise, problem
from millrace.errors import MillraceError

MIB = 1024 * 1024
PIECE = MIB
RATIO = 200
"""Unpacked over packed bytes that an archive may reach, beyond `FREE`."""

FREE = 64 * MIB
MAX_HEADER = 64 * 1024
"""Largest long name or set of extended attributes of a member of a tar, in bytes."""

MAX_DIRECTORY = 64 * MIB
"""Largest table of members of a zip."""

XZ_MEMORY = 256 * MIB
"""Memory that unpacking an xz file may take; `xz -9` asks for 65 MiB."""

_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})


@dataclass(frozen=True, slots=True)
class Member:
    """A file out of an archive."""

    path: str
    span: Span


class Unpacking:
    """Takes one archive into a spool. `stop` ends it from another thread."""

    def __init__(self, size: int, spool: Spool, bounds: Bounds, stop: threading.Event) -> None:
        self._packed, self._spool, self._bounds, self._stop = size, spool, bounds, stop
        self._bytes = 0
        self._members: list[Member] = []
        self._folders: set[str] = set()

    def run(self, file: IO[bytes]) -> list[Member]:
        """Return the members, sorted by path.

        Raises:
            ArchiveRefused, LandingTooLarge, NothingLanded: what their names say.
        """
        try:
            self._dispatch(file)
        except MillraceError:
            raise
        except Exception as error:  # noqa: BLE001 - parsers of strangers' bytes raise whatever they stumble over
            raise ArchiveRefused(
                f"the archive is broken, or in no form that is taken ({type(error).__name__})"
            ) from None
        if not self._members:
            raise NothingLanded("the archive holds no file")
        self._check_clashes()
        return sorted(self._members, key=lambda member: member.path)

    def _dispatch(self, file: IO[bytes]) -> None:
        head = file.read(512)
        file.seek(0)
        if head[:4] in {b"PK\3\4", b"PK\5\6"}:
            self._zip(file)
            return
        with _plain(head, file) as stream:
            self._tar(stream)

    def _zip(self, file: IO[bytes]) -> None:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            self._check_count(len(infos))
            self._check_total(sum(info.file_size for info in infos))
            _check_overlap(infos)
            for number, info in enumerate(infos, 1):
                self._zip_member(archive, info, number)

    def _zip_member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, number: int) -> None:
        kind = info.external_attr >> 28
        if info.flag_bits & 0x1 or info.flag_bits & 0x40:
            raise self._refused(number, info.orig_filename, "it is encrypted")
        if info.compress_type not in _METHODS:
            raise self._refused(number, info.orig_filename, "it is packed by a method that is not taken")
        if kind not in {0, 4, 8}:
            raise self._refused(number, info.orig_filename, "it is a link or a device")
        path = self._path(info.orig_filename, number)
        if info.is_dir():
            if info.file_size:
                raise self._refused(number, info.orig_filename, "a folder with bytes")
            self._folders.add(path)
            return
        with archive.open(info) as stream:
            self._keep(path, stream, info.file_size, number)

    def _tar(self, stream: IO[bytes]) -> None:
        counted = _Counted(stream, self._check_total)
        with tarfile.open(fileobj=counted, mode="r|", tarinfo=_Header) as archive:  # type: ignore[call-overload]
            for number, info in enumerate(self._tar_members(archive), 1):
                self._check_count(number)
                path = self._path(info.name, number)
                if info.sparse is not None or info.type == tarfile.GNUTYPE_SPARSE:
                    raise self._refused(number, info.name, "it is a sparse file")
                if info.isdir():
                    self._folders.add(path)
                elif not info.isreg():
                    raise self._refused(number, info.name, "it is a link or a device")
                else:
                    member = archive.extractfile(info)
                    if member is None:
                        raise self._refused(number, info.name, "it cannot be read")
                    self._keep(path, member, info.size, number)
        while rest := counted.read(PIECE):
            if rest.strip(b"\0"):
                raise ArchiveRefused("something follows the end of the archive")

    @staticmethod
    def _tar_members(archive: Any) -> Iterator[tarfile.TarInfo]:
        for info in archive:
            archive.members = []  # a stream is never looked back into; names would pile up otherwise
            yield info

    def _path(self, name: str, number: int) -> str:
        """Return a member's path in the version."""
        path = normalise(name.removesuffix("/"))
        while path.startswith("./"):
            path = path[2:]
        if path == "." or (not path and name == "./"):
            return ""
        if len(name) > 1 and name[1] == ":":
            raise self._refused(number, name, "it is not a relative path")
        if (why := problem(path)) is not None:
            raise self._refused(number, name, why)
        return path

    def _keep(self, path: str, stream: IO[bytes], said: int, number: int) -> None:
        if not path:
            raise self._refused(number, path, "it has no name")
        if said > self._bounds.max_bytes:
            raise LandingTooLarge(f"the archive unpacks to more than {self._bounds.max_bytes} bytes")
        start, size = self._spool.size, 0
        while piece := stream.read(PIECE):
            if self._stop.is_set():
                raise ArchiveRefused("unpacking was stopped")
            if size == 0 and (kind := container(piece, path)) is not None:
                raise self._refused(number, path, f"it is a {kind}: archives in archives are not taken")
            size += len(piece)
            self._bytes += len(piece)
            if size > said:
                raise self._refused(number, path, "it is larger than its header says")
            self._check_total(self._bytes)
            self._spool.append(piece)
        if size != said:
            raise self._refused(number, path, "it is cut short")
        self._members.append(Member(path, Span(start, size)))

    def _check_count(self, count: int) -> None:
        if count > self._bounds.max_files:
            raise LandingTooLarge(f"the archive holds more than {self._bounds.max_files} members")

    def _check_total(self, unpacked: int) -> None:
        if unpacked > FREE + RATIO * self._packed:
            raise ArchiveRefused(f"the archive unpacks to more than {RATIO} times its size: a bomb")
        if unpacked > self._bounds.max_bytes:
            raise LandingTooLarge(f"the archive unpacks to more than {self._bounds.max_bytes} bytes")

    def _check_clashes(self) -> None:
        paths = [member.path for member in self._members]
        found = collisions(paths)
        files = {fold(path) for path in paths}
        clash = next((folder for folder in self._folders if fold(folder) in files), None)
        if not found and clash is None:
            return
        if self._bounds.openly and found:
            raise ArchiveRefused("\n".join(found[:20]))
        seen: dict[str, int] = {}
        for number, path in enumerate(paths, 1):
            if (other := seen.setdefault(fold(path), number)) != number:
                first = named("file", other, paths[other - 1], openly=self._bounds.openly)
                second = named("file", number, path, openly=self._bounds.openly)
                raise ArchiveRefused(f"{first} and {second} are the same, or differ only by case or Unicode form")
        raise ArchiveRefused("a file of the archive stands where another member needs a folder")

    def _refused(self, number: int, name: str, why: str) -> ArchiveRefused:
        return ArchiveRefused(f"{named('member', number, name, openly=self._bounds.openly)}: {why}")


class _Header(tarfile.TarInfo):
    """A header of a tar. A tar without its end mark is cut short, and long names are not believed any length."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> Any:
        """Parse a header; only the end mark ends an archive."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError:
            raise ArchiveRefused("the archive is cut short or damaged: a header is missing or broken") from None

    def _proc_member(self, archive: Any) -> Any:
        extended = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE}
        if self.type in {*extended, tarfile.SOLARIS_XHDTYPE} and self.size > MAX_HEADER:
            raise ArchiveRefused(f"a header of the archive exceeds {MAX_HEADER} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Xz:
    """Reads an xz file with bounded memory, whatever its header asks for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._decompressor = file, self._fresh()

    @staticmethod
    def _fresh() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(PIECE)
                if not rest:
                    return b""
                self._decompressor = self._fresh()
            elif self._decompressor.needs_input:
                rest = self._file.read(PIECE)
                if not rest:
                    raise EOFError
            else:
                rest = b""
            if data := self._decompressor.decompress(rest, size):
                return data


class _Counted:
    """Counts what comes out of a decompressor, headers and padding included: a tar of holes is a bomb, too."""

    def __init__(self, stream: IO[bytes], check: Callable[[int], None]) -> None:
        self._stream, self._check, self._bytes = stream, check, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._bytes += len(data)
        self._check(self._bytes)
        return data


def _check_overlap(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse members that share bytes: how a small zip unpacks to petabytes without nesting."""
    end = 0
    for info in sorted(infos, key=lambda item: item.header_offset):
        if info.header_offset < end:
            raise ArchiveRefused("members of the archive overlap: a bomb")
        end = info.header_offset + 30 + info.compress_size


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a table of members that would fill the memory when it is read."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # noqa: SLF001 - the search has no public name
    if end is None or end[5] > MAX_DIRECTORY:
        raise ArchiveRefused("the archive has no table of members, or one that is absurd")
    file.seek(0)


def _plain(head: bytes, file: IO[bytes]) -> Any:
    """Return the stream of tar blocks in a file, whatever it is packed with."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\0"):
        return _Xz(file)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    if head[257:262] == b"ustar":
        return file
    raise ArchiveRefused("not an archive that is taken: zip, tar, tar.gz, tar.bz2, tar.xz and tar.zst are")
