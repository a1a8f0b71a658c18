"""What a file is, by its first bytes; its name only chooses between kinds of text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from dataclasses import dataclass

import pyarrow as pa

from ingest.adapters.dicom.detect import recognise

HEAD_BYTES = 64 * 1024
"""Bytes that are read of every landed file to find out what it is."""

PEEK = 1_024
"""Bytes that are unpacked of a compressed file to see what it hides."""

_STREAMS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ARCHIVES = {b"PK\3\4": "zip", b"PK\5\6": "zip", b"7z\xbc\xaf\x27\x1c": "7-Zip archive", b"Rar!\x1a\x07": "RAR archive"}
_ZIP_FORMATS = {".npz": b".npy", ".xlsx": b"", ".docx": b"", ".pptx": b"", ".keras": b""}
"""File formats that are zips inside: their endings, and what their first member's name must hold."""

_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}
_TEXTS = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".html": "text/html",
}


@dataclass(frozen=True)
class Kind:
    """A type of record and a media type."""

    type: str
    media_type: str


def ending(path: str) -> str:
    """Return a path's ending in lower case, with its dot."""
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2].casefold()}" if "." in name else ""


def container(head: bytes, path: str) -> str | None:
    """Return what kind of archive a file is, or hides behind a compression; None for all else.

    A compressed single file is none unless what it holds is an archive or DICOM. Formats that are zips inside
    (`.npz`, `.xlsx`, …) are none.
    """
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return None if name == "zip" and _is_format(head, path) else name
    if head[257:262] == b"ustar":
        return "tar archive"
    for magic, name in _STREAMS.items():
        if head.startswith(magic):
            inside = _unpacked(head, name)
            if inside[257:262] == b"ustar" or any(inside.startswith(begin) for begin in (*_ARCHIVES, *_STREAMS)):
                return f"{name}-compressed archive"
            return f"{name}-compressed DICOM file" if recognise(inside) else None
    return None


def kind_of(head: bytes, path: str) -> Kind:
    """Return what a file that is no DICOM is."""
    if head.startswith(b"PAR1"):
        return Kind("Table", "application/vnd.apache.parquet")
    for magic, media_type in _IMAGES.items():
        if head.startswith(magic):
            return Kind("Image", media_type)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("Image", "image/webp")
    if any(head.startswith(magic) for magic in (*_ARCHIVES, *_STREAMS)) or head[257:262] == b"ustar":
        return Kind("Archive", "application/octet-stream")
    if head and _is_text(head):
        media_type = _TEXTS.get(ending(path), "text/plain")
        return Kind("Table" if ending(path) in {".csv", ".tsv"} else "Text", media_type)
    return Kind("File", "application/octet-stream")


def _is_format(head: bytes, path: str) -> bool:
    wanted = _ZIP_FORMATS.get(ending(path))
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return wanted is not None and wanted in name


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8-sig")
    return not any(char < " " and char not in "\t\n\r\f" for char in text)


def _unpacked(head: bytes, name: str) -> bytes:
    """Return the first bytes of what a compressed file holds; nothing if that cannot be told."""
    try:
        if name == "gzip":
            return zlib.decompressobj(wbits=31).decompress(head, PEEK)
        if name == "bzip2":
            return bz2.BZ2Decompressor().decompress(head, PEEK)
        if name == "xz":
            return lzma.LZMADecompressor(memlimit=1 << 27).decompress(head, PEEK)
        return bytes(pa.CompressedInputStream(pa.BufferReader(head), "zstd").read(PEEK))
    except (zlib.error, OSError, EOFError, lzma.LZMAError, pa.ArrowException, gzip.BadGzipFile, ValueError):
        return b""
