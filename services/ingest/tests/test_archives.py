"""Unpacking, without any server: what is taken, what is refused, and what it may cost."""

from __future__ import annotations

import io
import resource
import threading
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.archives import Member, Unpacking
from ingest.adapters.sniff import container, kind_of
from ingest.adapters.spool import Spool
from ingest.application.ports import Bounds
from ingest.domain.names import masked, named
from ingest.errors import ArchiveRefused, LandingTooLarge, NothingLanded
from millrace.errors import MillraceError

from .archive_files import FILES, FORMS, HOSTILE, tarred, zipped

LIMIT = 1 << 30


def unpack(data: bytes, spool: Spool, *, files: int = 1_000, size: int = LIMIT, openly: bool = True) -> list[Member]:
    bounds = Bounds(files, size, openly)
    return Unpacking(len(data), spool, bounds, threading.Event()).run(io.BytesIO(data))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_files(form: str) -> None:
    with Spool(LIMIT) as spool:
        members = unpack(FORMS[form](FILES), spool)
        found = {member.path: spool.read(member.span, 0, member.span.size) for member in members}
    assert found == FILES
    assert [member.path for member in members] == sorted(FILES)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("openly", [True, False])
def test_hostile_archives_are_refused_whole(name: str, openly: bool) -> None:
    make, why = HOSTILE[name]
    data = make()
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Spool(LIMIT) as spool, pytest.raises((ArchiveRefused, NothingLanded)) as caught:
        unpack(data, spool, openly=openly)
    assert why in caught.value.message
    assert time.monotonic() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_the_offender_is_named_openly_or_by_number_and_shape() -> None:
    data = zipped({"ok.txt": b"1", "../Mustermann/x.dcm": b"2"})
    said = []
    for openly in (True, False):
        with Spool(LIMIT) as spool, pytest.raises(ArchiveRefused) as caught:
            unpack(data, spool, openly=openly)
        said.append(caught.value.message)
    assert "member 2 ('../Mustermann/x.dcm')" in said[0]
    assert "member 2 ('../*/*.dcm')" in said[1]


@given(st.text(max_size=300))
def test_a_masked_name_tells_nothing(name: str) -> None:
    shown = masked(f"{name}/Mustermann.Hans/19470311.Mustermann")
    assert "mustermann" not in shown.casefold()
    assert "1947" not in shown or "1947" in masked(name)
    assert named("file", 1, name, openly=False).isprintable()


def test_limits_hold() -> None:
    with Spool(LIMIT) as spool, pytest.raises(LandingTooLarge, match="more than 2"):
        unpack(tarred(FILES), spool, files=2)
    with Spool(LIMIT) as spool, pytest.raises(LandingTooLarge, match="more than 300 bytes"):
        unpack(zipped(FILES), spool, size=300)
    with Spool(100) as spool, pytest.raises(LandingTooLarge, match="local disk"):
        unpack(zipped(FILES), spool)


def test_a_stopped_unpacking_ends() -> None:
    stop = threading.Event()
    stop.set()
    data = zipped(FILES)
    with Spool(LIMIT) as spool, pytest.raises(ArchiveRefused, match="stopped"):
        Unpacking(len(data), spool, Bounds(9, LIMIT, True), stop).run(io.BytesIO(data))


def test_a_spool_has_no_name(tmp_path: Path) -> None:
    with Spool(100, tmp_path) as spool:
        span = spool.append(b"hello")
        assert spool.read(span, 1, 99) == b"ello"
        assert list(tmp_path.iterdir()) == []
        assert spool.size == 5


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_archives_are_refused_or_whole(form: str, data: st.DataObject) -> None:
    packed = bytearray(FORMS[form](FILES))
    for _ in range(data.draw(st.integers(1, 6))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(packed[: data.draw(st.integers(0, len(packed)))])
    with Spool(LIMIT) as spool:
        try:
            members = unpack(cut, spool)
        except MillraceError:
            return
        assert members


def test_formats_that_are_zips_inside_are_files() -> None:
    arrays = zipped({"x.npy": b"\x93NUMPY"})
    assert container(arrays, "a/x.npz") is None
    assert container(arrays, "a/x.zip") == "zip"
    assert container(zipped({"scan.dcm": b""}), "x.npz") == "zip"
    with Spool(LIMIT) as spool:
        assert [member.path for member in unpack(tarred({"x.npz": arrays}), spool)] == ["x.npz"]


def test_kinds() -> None:
    assert kind_of(b"\x89PNG\r\n\x1a\n", "x").media_type == "image/png"
    assert kind_of("grüße\n".encode(), "x.txt").type == "Text"
    assert kind_of(b"a,b\n1,2\n", "x.csv").type == "Table"
    assert kind_of(b"\0\1\2", "x.csv").type == "File"
    assert kind_of(b"", "x.csv").type == "File"
    assert kind_of(zipped({}, method=zipfile.ZIP_STORED), "x").type == "Archive"
