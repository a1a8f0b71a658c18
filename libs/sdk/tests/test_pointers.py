"""Versions named in Git, and parts of versions: what a person types."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from millrace.errors import Invalid
from millrace_sdk import pointer
from millrace_sdk.cli import main

from .gateway import Gateway

pytestmark = pytest.mark.servers


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def read(root: Path) -> dict[str, str]:
    found = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
    return {path: text for path, text in found.items() if not path.startswith(".millrace-data/")}


def git(where: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=where, check=True, capture_output=True)


@pytest.fixture
def source(lakeside: Gateway, tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write(root, {"train/a.txt": "a", "train/b.txt": "b", "test/c.txt": "c"})
    assert main(["data", "init", "digits", "--folder", str(root)]) == 0
    assert main(["data", "sync", "--folder", str(root)]) == 0
    return root


def test_git_checkout_and_pull_bring_that_very_version(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    monkeypatch.chdir(code)
    git(code, "init", "-q")
    assert main(["data", "pull"]) == 4
    assert main(["data", "link", "digits", "data/digits"]) == 1
    (code / "data").mkdir()
    assert main(["data", "link", "digits", "data/digits"]) == 0
    git(code, "add", "data/digits.millrace")
    git(code, "commit", "-qm", "first data")
    write(source, {"train/a.txt": "A", "new.txt": "n"})
    assert main(["data", "sync", "--folder", str(source)]) == 0
    assert main(["data", "link", "digits", "data/digits"]) == 0
    git(code, "commit", "-qam", "second data")
    assert main(["data", "pull"]) == 0
    assert read(code / "data/digits") == {"train/a.txt": "A", "train/b.txt": "b", "test/c.txt": "c", "new.txt": "n"}
    kept = (code / "data/digits/train/b.txt").stat().st_ino
    git(code, "checkout", "-q", "HEAD~1")
    capsys.readouterr()
    assert main(["data", "pull", "--json"]) == 0
    (done,) = json.loads(capsys.readouterr().out)
    assert (done["version"], done["changed"]) == (1, True)
    assert read(code / "data/digits") == {"train/a.txt": "a", "train/b.txt": "b", "test/c.txt": "c"}
    assert (code / "data/digits/train/b.txt").stat().st_ino == kept
    assert main(["data", "pull", "data/digits.millrace"]) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_work_in_a_pulled_folder_is_not_thrown_away(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert main(["data", "link", "digits"]) == 0
    assert main(["data", "pull", "digits.millrace"]) == 0
    (tmp_path / "digits/mine.txt").write_text("mine")
    assert main(["data", "pull", "digits.millrace"]) == 5
    assert "mine.txt" in capsys.readouterr().err
    assert main(["data", "pull", "digits.millrace", "--force"]) == 0
    write(tmp_path / "other", {"x": "x"})
    (tmp_path / "digits.millrace").rename(tmp_path / "other.millrace")
    assert main(["data", "pull", "other.millrace"]) == 5
    assert read(tmp_path / "other") == {"x": "x"}


def test_a_pull_that_was_killed_at_its_end_is_finished(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "link", "digits"]) == 0
    assert main(["data", "pull", "digits.millrace"]) == 0
    write(source, {"train/a.txt": "A"})
    assert main(["data", "sync", "--folder", str(source)]) == 0
    assert main(["data", "link", "digits"]) == 0
    for renames in (0, 1):
        left = renames

        def killed(self: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            self.replace(target)
            return target

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killed)
            assert main(["data", "pull", "digits.millrace"]) == 130
    assert main(["data", "pull", "digits.millrace"]) == 0
    assert read(tmp_path / "digits") == {"train/a.txt": "A", "train/b.txt": "b", "test/c.txt": "c"}
    assert [path.name for path in tmp_path.glob(".digits*")] == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "millrace-pointer/1"}', "{" * 100_000])
def test_what_is_no_pointer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.millrace").write_text(text)
    with pytest.raises(Invalid):
        pointer.read(tmp_path / "x.millrace")


def test_patterns_choose_what_is_synced_and_pulled(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--folder", str(source)]
    write(source, {".millraceignore": "# notes\n*.log\nscratch/\n", "train/run.log": "l", "scratch/x/y.txt": "y"})
    assert main(["data", "status", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"added": [], "removed": [], "changed": []}
    assert main(["data", "sync", *where, "--exclude", "test/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 2
    assert main(["data", "sync", *where, "--include", "test/*", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 1
    assert main(["data", "pull", "digits@1", str(tmp_path / "some"), "--include", "train/", "--exclude", "b.*"]) == 0
    assert read(tmp_path / "some") == {"train/a.txt": "a"}
    assert main(["data", "pull", "digits@1", str(tmp_path / "none"), "--include", "nothing"]) == 4
    assert main(["data", "pull", "digits@1"]) == 2
