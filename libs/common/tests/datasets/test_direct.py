"""Writes past the page cache: the same bytes as any write, whatever the file system makes of them."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millrace.datasets import direct
from millrace.datasets.buffers import anonymous
from millrace.datasets.direct import BLOCK, WORTH, write_all

EXT4 = 0xEF53
FILE_SYSTEM = direct._file_system
Write = Callable[[int, memoryview], int]
LENGTHS = [0, 1, BLOCK, WORTH - 1, WORTH, WORTH + 1, 3 * 1024 * 1024 + 5, 4 * 1024 * 1024]


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    yield opened
    os.close(opened)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the test's file system as one for direct writes; one that refuses them gets the others."""
    monkeypatch.setattr(direct, "_file_system", lambda _handle: EXT4)


def is_direct(handle: int) -> bool:
    return bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT)


def content(handle: int) -> bytes:
    return os.pread(handle, 64 * 1024 * 1024, 0)


def writes(monkeypatch: pytest.MonkeyPatch, handle: int, write: Write) -> None:
    """Let writes to `handle`, and no others, be done by `write`."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda to, data: write(to, data) if to == handle else real(to, data))


def aligned(data: bytes) -> memoryview:
    memory = memoryview(anonymous(len(data) + BLOCK))
    memory[: len(data)] = data
    return memory[: len(data)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shift", [0, 3])
def test_any_length_from_any_memory(handle: int, length: int, shift: int) -> None:
    data = os.urandom(length + shift)
    write_all(handle, aligned(data)[shift:])
    assert content(handle) == data[shift:]
    assert not is_direct(handle)


def test_parts_follow_each_other_at_any_place(handle: int) -> None:
    parts = [os.urandom(size) for size in (WORTH, 2 * WORTH + 17, WORTH, 5, 4 * WORTH)]
    for part in parts:
        write_all(handle, part)
    assert content(handle) == b"".join(parts)


def test_only_what_is_large_and_lies_at_a_block_goes_past_the_cache(
    handle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    able = direct._begin(handle)
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~os.O_DIRECT)
    seen: list[tuple[int, bool]] = []
    real = os.write

    def watched(to: int, data: memoryview) -> int:
        seen.append((len(data), is_direct(to)))
        return real(to, data)

    writes(monkeypatch, handle, watched)
    write_all(handle, b"a" * (WORTH - 1))
    write_all(handle, b"b" * WORTH)
    os.lseek(handle, 0, os.SEEK_SET)
    write_all(handle, b"c" * (WORTH + 9))
    last = [(WORTH, True), (9, False)] if able else [(WORTH + 9, False)]  # older tmpfs cannot
    assert seen == [(WORTH - 1, False), (WORTH, False), *last]


def test_a_disk_of_larger_blocks_is_written_through_the_cache(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def picky(to: int, data: memoryview) -> int:
        if is_direct(to):
            raise OSError(errno.EINVAL, "not aligned")
        return real(to, data)

    writes(monkeypatch, handle, picky)
    data = os.urandom(WORTH + 1)
    write_all(handle, data)
    assert content(handle) == data


def test_a_write_that_was_cut_short_is_gone_on_with(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    taken = iter([BLOCK, 3 * BLOCK, 1000])

    def short(to: int, data: memoryview) -> int:
        limit = next(taken, len(data))
        if limit % BLOCK:  # the kernel may end anywhere; from here no direct write of such a length is possible
            fcntl.fcntl(to, fcntl.F_SETFL, fcntl.fcntl(to, fcntl.F_GETFL) & ~os.O_DIRECT)
        return real(to, data[:limit])

    writes(monkeypatch, handle, short)
    data = os.urandom(2 * WORTH)
    write_all(handle, data)
    assert content(handle) == data


def test_a_full_disk_is_told_and_the_handle_is_as_before(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_to: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "no space")

    writes(monkeypatch, handle, full)
    with pytest.raises(OSError, match="no space"):
        write_all(handle, b"x" * WORTH)
    assert not is_direct(handle)


def test_a_file_system_that_is_not_known_to_gain_is_left_alone(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_file_system", lambda _handle: 0x6969)  # NFS
    monkeypatch.setattr(fcntl, "fcntl", lambda *_args: pytest.fail("the handle's flags were touched"))
    write_all(handle, b"x" * WORTH)


def test_the_file_system_is_told(handle: int, tmp_path: Path) -> None:
    told = subprocess.run(["stat", "-f", "-c", "%t", tmp_path], check=True, capture_output=True, text=True).stdout
    assert FILE_SYSTEM(handle) == int(told, 16)
