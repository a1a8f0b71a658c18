from __future__ import annotations

import contextlib
import struct
from typing import Any

import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.datasets.arrow_bounds import claimed
from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.manifest import Manifest, PackRef
from millrace.datasets.manifest_checks import schema_of
from millrace.datasets.paths import Refused, problem
from millrace.errors import Corrupt, Invalid, MillraceError

from .helpers import digest, manifest_of

FILES = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda path: problem(path) is None and path.isascii() and path.islower()),
    st.binary(max_size=40),
    max_size=12,
).filter(lambda files: not any(other.startswith(f"{path}/") for path in files for other in files))


@given(files=FILES)
@settings(deadline=None)
def test_rows_come_back_and_bytes_are_the_same_each_time(files: dict[str, bytes]) -> None:
    made = manifest_of(files)
    read = Manifest.parse(made.to_bytes(), expect=made.id)
    assert read.paths == sorted(files)
    assert [(entry.path, entry.digest, entry.size) for entry in read.entries()] == [
        (path, digest(files[path]), len(files[path])) for path in sorted(files)
    ]
    assert read.to_bytes() == made.to_bytes() == manifest_of(files).to_bytes()
    assert read.tree_root == made.tree_root
    assert (read.files, read.bytes) == (len(files), sum(map(len, files.values())))
    assert [read.find(path) for path in sorted(files)] == list(range(len(files)))
    assert read.find("not there") is None


def test_diff_is_by_content() -> None:
    old = manifest_of({"a": b"1", "b": b"2", "c": b"3"})
    new = manifest_of({"a": b"1", "b": b"changed", "d": b"4"})
    assert old.diff(new) == type(old.diff(new))(added=("d",), removed=("c",), changed=("b",))
    assert not old.diff(old)


@given(files=FILES, data=st.data())
@settings(deadline=None)
def test_damage_is_noticed_and_never_crashes(files: dict[str, bytes], data: st.DataObject) -> None:
    good = manifest_of(files)
    bad = bytearray(good.to_bytes())
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Corrupt):
        Manifest.parse(bytes(bad), expect=good.id)
    try:
        Manifest.parse(bytes(bad))
    except MillraceError:
        return


@given(files=FILES, data=st.data())
@settings(deadline=None)
def test_a_cut_manifest_is_refused(files: dict[str, bytes], data: st.DataObject) -> None:
    good = manifest_of({"first": b"x", **{f"x{path}": content for path, content in files.items()}}).to_bytes()
    cut = good[: data.draw(st.integers(0, len(good) - 10))]
    try:
        files_left = Manifest.parse(cut).files
    except MillraceError:
        return
    assert files_left == 0


@given(noise=st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(Invalid):
        Manifest.parse(noise)


PACK = PackRef("a" * 64, 1_000)


def stored(rows: list[dict[str, Any]], packs: list[tuple[str, int]] | None = None, compression: str = "zstd") -> bytes:
    base = {"blake3": bytes(32), "size": 1, "mode": 0o644, "mtime_ns": 0, "pack": 0, "offset": 0, "chunks": None}
    table = pa.Table.from_pylist([{**base, **row} for row in rows], schema_of(packs or [(PACK.id, PACK.size)]))
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_the_helper_makes_good_manifests() -> None:
    assert Manifest.parse(stored([{"path": "a"}, {"path": "b"}])).files == 2


@pytest.mark.parametrize(
    "path",
    [
        "../a", "a/../b", "/etc/passwd", "a//b", "a/", ".", "..", "a\\b", "a\0b", "a\nb", "e\u0301", "_READY",
        "x" * 256, "x/" * 600 + "x",
    ],
)  # fmt: skip
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(Refused):
        Manifest.parse(stored([{"path": path}]))


@pytest.mark.parametrize(
    "row",
    [
        {"size": -1}, {"size": 2**63 - 1}, {"size": 1_001}, {"offset": 1_000}, {"offset": -1}, {"offset": 2**63 - 1},
        {"pack": 1}, {"pack": -5}, {"mode": -1}, {"mode": 0o4755}, {"pack": None, "offset": None},
        {"chunks": [bytes(32)]}, {"pack": None, "offset": None, "chunks": [bytes(32)] * 2},
        {"pack": None, "offset": None, "chunks": [bytes(32)], "size": 17 << 20}, {"pack": None, "offset": 5, "size": 0},
    ],
)  # fmt: skip
def test_absurd_rows_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Manifest.parse(stored([{"path": "a", **row}]))


@pytest.mark.parametrize("paths", [["b", "a"], ["a", "a"]])
def test_unsorted_rows_are_refused(paths: list[str]) -> None:
    with pytest.raises(Invalid, match="sorted"):
        Manifest.parse(stored([{"path": path} for path in paths]))


@pytest.mark.parametrize(
    "packs", [[("../../x", 100)], [("a" * 64, 10)], [("a" * 64, 2**40)], [("a" * 64, "many")], ["ab"], [["a" * 64]]]
)
def test_absurd_tables_of_packs_are_refused(packs: list[Any]) -> None:
    with pytest.raises(Invalid):
        Manifest.parse(stored([{"path": "a"}], packs))


def test_other_columns_are_refused() -> None:
    sink = pa.BufferOutputStream()
    table = pa.table({"path": ["a"]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(Invalid, match="columns"):
        Manifest.parse(sink.getvalue().to_pybytes())


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    zeros = pa.array([b"\0" * 32] * 2_000_000, pa.binary(32))
    table = pa.table({"blake3": zeros})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    bomb = sink.getvalue().to_pybytes()
    assert claimed(bomb)[1] >= 64_000_000
    assert len(bomb) < 100_000
    with pytest.raises(Invalid, match="absurd"):
        Manifest.parse(bomb)


def test_a_lying_size_is_refused_before_it_is_allocated() -> None:
    raw = bytearray(stored([{"path": f"{'p' * 50}{index:05d}"} for index in range(2_000)]))
    position = 0
    for place in range(0, len(raw) - 8, 8):
        if struct.unpack_from("<q", raw, place)[0] == 55 * 2_000:
            struct.pack_into("<q", raw, place, 1 << 45)
            position = place
    assert position
    with pytest.raises(Invalid, match="absurd"):
        Manifest.parse(bytes(raw))


def test_the_builder_refuses_clashes_and_names_them() -> None:
    builder = ManifestBuilder()
    for path in ("a.png", "A.png"):
        builder.add(path, digest(b""), 0, mode=0o644, mtime_ns=0)
    with pytest.raises(Refused, match=r"'A\.png' and 'a\.png'"):
        builder.build()


def test_packs_that_no_row_uses_are_left_out() -> None:
    builder = ManifestBuilder()
    builder.pack(PackRef(blake3(b"unused").hexdigest(), 1_000))
    used = builder.pack(PACK)
    builder.add("a", digest(b"x"), 1, mode=0o644, mtime_ns=0, pack=used)
    manifest = builder.build()
    assert manifest.packs == (PACK,)
    assert manifest.entry(0).pack == 0


def test_a_message_that_points_outside_of_itself_is_refused() -> None:
    good = bytearray(manifest_of({}).to_bytes())
    for place in range(8, 80):
        bad = bytearray(good)
        bad[place] = 0xFF
        with contextlib.suppress(Invalid):
            Manifest.parse(bytes(bad))
