"""Archives, good and hostile, as bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping

import pyarrow as pa

FILES = {"train/0/a.png": b"a" * 300, "train/1/b.txt": b"some words\n", "empty.bin": b""}


def zipped(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], *more: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue())


FORMS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "zip": zipped,
    "zip stored": lambda files: zipped(files, method=zipfile.ZIP_STORED),
    "tar": tarred,
    "tar.gz": lambda files: gzip.compress(tarred(files)),
    "tar.bz2": lambda files: bz2.compress(tarred(files)),
    "tar.xz": lambda files: lzma.compress(tarred(files)),
    "tar.zst": lambda files: zstd(tarred(files)),
}


def entry(name: str, kind: bytes, *, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def linked_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zipped({"a.txt": b"secret"}))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    return bytes(data)


def overlapping_zip() -> bytes:
    """Return two members that share their bytes."""
    one = zipped({"a": b"0" * 5_000})
    first = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")
    row = one[first:end]
    other = bytearray(row)
    other[46:47] = b"b"
    tail = bytearray(one[end:])
    tail[8:10] = tail[10:12] = (2).to_bytes(2, "little")
    tail[12:16] = (2 * len(row)).to_bytes(4, "little")
    return one[:first] + row + bytes(other) + bytes(tail)


def bomb(size: int = 256 * 1024 * 1024) -> bytes:
    """Return a gzip of a tar with one file of zeros: packed a thousandfold."""
    info = tarfile.TarInfo("zeros.bin")
    info.size = size
    packer = zlib.compressobj(9, wbits=31)
    out = [packer.compress(info.tobuf())]
    out += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join((*out, packer.compress(bytes(1_024)), packer.flush()))


def sparse() -> bytes:
    return tarred({}, entry("holes", tarfile.GNUTYPE_SPARSE))


def long_header() -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10 * 1024 * 1024
    return info.tobuf() + b"x" * info.size + bytes(1_024)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "climbing zip": (lambda: zipped({"ok": b"1", "../../etc/x": b"2"}), "'..' segment"),
    "climbing tar": (lambda: tarred({"a/../../x": b"2"}), "'..' segment"),
    "absolute zip": (lambda: zipped({"/etc/x": b"2"}), "not a relative path"),
    "absolute tar": (lambda: tarred({"/etc/x": b"2"}), "not a relative path"),
    "drive": (lambda: zipped({"C:/x": b"2"}), "not a relative path"),
    "backslash": (lambda: zipped({"a\\..\\x": b"2"}), "backslash"),
    "control": (lambda: tarred({"a\nb": b"2"}), "control character"),
    "reserved": (lambda: zipped({"_READY": b"2"}), "reserved"),
    "link in zip": (linked_zip, "link or a device"),
    "symlink": (lambda: tarred({}, entry("l", tarfile.SYMTYPE, target="/etc")), "link or a device"),
    "hard link": (lambda: tarred({"a": b""}, entry("l", tarfile.LNKTYPE, target="a")), "link or a device"),
    "device": (lambda: tarred({}, entry("d", tarfile.CHRTYPE)), "link or a device"),
    "pipe": (lambda: tarred({}, entry("p", tarfile.FIFOTYPE)), "link or a device"),
    "sparse": (sparse, ""),
    "bomb": (bomb, "bomb"),
    "overlap": (overlapping_zip, "overlap"),
    "nested zip": (lambda: zipped({"in.zip": zipped(FILES)}), "archives in archives"),
    "nested tar": (lambda: tarred({"in.tar.gz": gzip.compress(tarred(FILES))}), "archives in archives"),
    "disguised": (lambda: tarred({"in.txt": zipped(FILES)}), "archives in archives"),
    "encrypted": (encrypted_zip, "encrypted"),
    "case": (lambda: zipped({"a.png": b"1", "A.png": b"2"}), "case or Unicode"),
    "unicode": (lambda: tarred({"Ma\u00dfe/x": b"1", "masse/x": b"2"}), "case or Unicode"),
    "file for folder": (lambda: zipped({"a": b"1", "a/b": b"2"}), "folder"),
    "folder for file": (lambda: tarred({"a": b"1"}, entry("A", tarfile.DIRTYPE)), "folder"),
    "twice": (lambda: tarred({"a": b"1"}, entry("a", tarfile.REGTYPE)), ""),
    "long header": (long_header, "header of the archive"),
    "cut tar": (lambda: tarred(FILES)[:1_024], "cut short"),
    "cut header": (lambda: tarred(FILES)[:1_200], ""),
    "cut gzip": (lambda: gzip.compress(tarred(FILES))[:-20], ""),
    "cut zip": (lambda: zipped(FILES)[:-30], ""),
    "cut xz": (lambda: lzma.compress(tarred(FILES))[:-30], ""),
    "damaged": (lambda: zipped({"a": b"x" * 99}, method=zipfile.ZIP_STORED).replace(b"xxx", b"xyx", 1), ""),
    "second tar": (lambda: tarred({"a": b"1"}) + tarred({"b": b"2"}), "follows the end"),
    "no archive": (lambda: b"just some words", "not an archive"),
    "gzip of words": (lambda: gzip.compress(b"just some words" * 99), ""),
    "empty": (lambda: zipped({}), "no file"),
    "7-Zip": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(600), "not an archive"),
}
