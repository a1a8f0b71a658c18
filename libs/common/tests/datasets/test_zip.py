"""The zip of a version: what other programs read from it, and that it never holds a damaged file."""

from __future__ import annotations

import io
import random
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path
from zlib import crc32

import pytest

from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.keys import chunk_key, pack_key
from millrace.datasets.limits import CHUNK, CHUNKED_ABOVE
from millrace.datasets.manifest import Manifest, PackRef
from millrace.datasets.push import push
from millrace.datasets.stored import load_manifest
from millrace.datasets.zip_layout import ZipLayout
from millrace.datasets.zip_stream import WINDOW_BYTES, ZipStream, windows
from millrace.errors import Corrupt, NotFound
from millrace.objects import ObjectStore

P = "default"
BIG = random.Random(5).randbytes(CHUNK + 12_345)


@pytest.fixture
async def version(lake: ObjectStore, tmp_path: Path) -> Manifest:
    """A version with many small files, an empty one, one that is chunked, and names that want UTF-8."""
    files = {f"train/{n % 7}/{n:05d}.txt": f"{n}".encode() * (n % 50) for n in range(1_500)}
    files |= {"empty": b"", "größe/ä ö.bin": b"umlaut", "big.bin": BIG, "last": bytes(CHUNKED_ABOVE)}
    folder = tmp_path / "tree"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / "empty").chmod(0o755)
    pushed = await push(folder, lake, project=P)
    return await load_manifest(lake, P, pushed.manifest_id)


async def zipped(lake: ObjectStore, manifest: Manifest, first: int = 0, last: int | None = None) -> bytes:
    stream = ZipStream(lake, P, manifest, first, manifest.files if last is None else last)
    data = b"".join([part async for part in stream])
    assert len(data) == stream.length
    return data


async def test_python_and_unzip_read_what_was_sent(lake: ObjectStore, version: Manifest, tmp_path: Path) -> None:
    data = await zipped(lake, version)
    assert data == await zipped(lake, version), "equal rows give equal bytes"
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        assert found.namelist() == version.paths
        assert found.read("big.bin") == BIG
        assert found.read("größe/ä ö.bin") == b"umlaut"
        assert found.getinfo("empty").external_attr >> 16 == 0o100755
        assert {info.date_time for info in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert shutil.which("unzip"), "unzip judges what other programs think of it"
    (tmp_path / "it.zip").write_bytes(data)
    judged = subprocess.run(["unzip", "-tq", "it.zip"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


async def test_a_run_of_rows_is_a_zip_of_its_own(lake: ObjectStore, version: Manifest) -> None:
    rows = [index for index, path in enumerate(version.paths) if path.startswith("train/3/")]
    with zipfile.ZipFile(io.BytesIO(await zipped(lake, version, rows[0], rows[-1] + 1))) as found:
        assert found.namelist() == [version.paths[row] for row in rows]
        assert found.testzip() is None
    with zipfile.ZipFile(io.BytesIO(await zipped(lake, version, 0, 0))) as found:
        assert found.namelist() == []


@pytest.mark.parametrize("what", ["pack", "chunk", "gone"])
async def test_a_damaged_blob_ends_the_stream_before_the_directory(
    lake: ObjectStore, version: Manifest, what: str
) -> None:
    entry = version.entry(version.find("big.bin" if what != "pack" else "train/6/01497.txt") or 0)
    if what == "pack":
        assert entry.pack is not None
        key = pack_key(P, version.packs[entry.pack].id)
        data = bytearray(await lake.get(key))
        data[entry.offset] ^= 1
        await lake.put(key, bytes(data))
    else:
        key = chunk_key(P, entry.chunks[1].hex())
        await (lake.delete(key) if what == "gone" else lake.put(key, bytes(len(BIG) - CHUNK)))
    sent = b""

    async def send() -> None:
        nonlocal sent
        async for part in ZipStream(lake, P, version, 0, version.files):
            sent += part

    with pytest.raises((Corrupt, NotFound)):
        await send()
    assert b"PK\1\2" not in sent
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(sent))


def sparse(sizes: dict[str, int]) -> Manifest:
    """A manifest of files of zeros, of which no byte is anywhere."""
    builder = ManifestBuilder()
    ordinal = builder.pack(PackRef("a" * 64, 1_000_000))
    for path, size in sizes.items():
        if size > CHUNKED_ABOVE:
            builder.add(path, b"d" * 32, size, mode=0o644, mtime_ns=0, chunks=(b"c" * 32,) * -(-size // CHUNK))
        elif size:
            builder.add(path, b"d" * 32, size, mode=0o644, mtime_ns=0, pack=ordinal, offset=0)
        else:
            builder.add(path, b"d" * 32, 0, mode=0o644, mtime_ns=0)
    return builder.build()


def written(layout: ZipLayout, path: Path, contents: bytes = b"") -> None:
    """Write a zip as the stream does; large files become holes."""
    with path.open("wb") as file:
        for index in range(layout.entries):
            size = int(layout.sizes[index])
            if layout.late[index]:
                file.write(layout.header(index))
                file.seek(size, 1)
                file.write(layout.descriptor(index))
            else:
                layout.crcs[index] = crc32(contents[:size])
                file.write(layout.header(index) + contents[:size])
        for block in layout.directory():
            file.write(block)


def test_more_than_65535_entries_are_read(tmp_path: Path) -> None:
    manifest = sparse({f"f{n:06d}": n % 3 for n in range(70_000)})
    layout = ZipLayout(manifest, 0, manifest.files)
    written(layout, tmp_path / "many.zip", b"xyz")
    assert (tmp_path / "many.zip").stat().st_size == layout.length
    with zipfile.ZipFile(tmp_path / "many.zip") as found:
        assert len(found.namelist()) == 70_000
        assert found.read("f069998") == b"xy"
    judged = subprocess.run(
        ["unzip", "-tq", "many.zip"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert judged.returncode == 0, judged.stdout[-300:]


def test_a_file_beyond_4_gib_and_what_follows_it_are_read(tmp_path: Path) -> None:
    manifest = sparse({"a": 3, "big": 5 * 1024**3 + 7, "c": 3})
    layout = ZipLayout(manifest, 0, 3)
    layout.crcs[1] = 0x12345678
    written(layout, tmp_path / "big.zip", b"xyz")
    assert (tmp_path / "big.zip").stat().st_size == layout.length
    with zipfile.ZipFile(tmp_path / "big.zip") as found:
        info = found.getinfo("big")
        assert (info.file_size, info.compress_size, info.CRC) == (5 * 1024**3 + 7, 5 * 1024**3 + 7, 0x12345678)
        assert found.read("c") == b"xyz"
        assert found.getinfo("c").header_offset > 0xFFFFFFFF
    listed = subprocess.run(["unzip", "-lq", "big.zip"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "5368709127" in listed.stdout
    single = subprocess.run(["unzip", "-pq", "big.zip", "c"], cwd=tmp_path, capture_output=True, check=False)
    assert single.stdout == b"xyz"


def test_the_end_of_a_zip_of_65534_entries_is_the_plain_one() -> None:
    for entries, wide in ((65_534, False), (65_535, True)):
        manifest = sparse({f"{n:05d}": 0 for n in range(entries)})
        layout = ZipLayout(manifest, 0, entries)
        end = list(layout.directory())[-1]
        assert end.startswith(b"PK\6\6" if wide else b"PK\5\6")
        assert struct.unpack_from("<H", end, len(end) - 12)[0] == min(entries, 0xFFFF)


def test_windows_cover_every_entry_once_and_stay_small() -> None:
    chance = random.Random(3)
    sizes = {f"{n:04d}": chance.choice([0, 10, 5_000, 400_000, 20 * 1024**2]) for n in range(3_000)}
    manifest = sparse(sizes)
    layout = ZipLayout(manifest, 0, manifest.files)
    spans = list(windows(layout.sizes, layout.late))
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == manifest.files
    for start, stop in spans:
        assert not layout.late[start:stop].any() or stop == start + 1
        assert layout.late[start] or stop == start + 1 or layout.sizes[start:stop].sum() <= WINDOW_BYTES
