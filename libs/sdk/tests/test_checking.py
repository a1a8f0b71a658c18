"""Checks on a folder before a byte is sent, programs of the project's own among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from millrace.checks import parse_checks
from millrace_sdk import folder
from millrace_sdk.checking import with_digests
from millrace_sdk.cli.app import main
from millrace_sdk.folder import Config

from .gateway import Gateway

pytestmark = pytest.mark.servers

DOCUMENT = """
checks:
  - name: enough
    files: {match: ["*.txt"], min: 2}
  - name: ages
    table: {file: people.csv, columns: {age: {type: integer, max: 120}}}
  - name: ours
    python: {file: checks/ours.py}
"""
PROGRAM = """
import os, pathlib, sys
assert os.getcwd() == sys.argv[1]
assert "MILLRACE_TOKEN" not in os.environ
if (pathlib.Path(sys.argv[1]) / "bad.txt").exists():
    print("looked at everything")
    sys.exit("bad.txt is there")
"""


@pytest.fixture
def copy(lakeside: Gateway, tmp_path: Path) -> Path:
    """A folder inside a repository, and a dataset that demands three things."""
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    (repository / "checks").mkdir()
    (repository / "checks" / "ours.py").write_text(PROGRAM)
    root = repository / "data" / "people"
    root.mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "people.csv").write_text("age\n30\n130\n")
    folder.write(root, Config("people"))
    checks = with_digests(parse_checks(DOCUMENT), repository)
    lakeside.demand(checks.document["checks"])
    return root


def test_nothing_is_sent_of_a_folder_that_fails(lakeside: Gateway, copy: Path, capsys: Any) -> None:
    assert main(["data", "sync", "-C", str(copy)]) == 1
    told = capsys.readouterr().err
    assert "enough: 1 files, less than 2" in told
    assert "ages: column 'age': 1 cells more than 120 (row 2)" in told
    assert not [path for method, path, _ in lakeside.requests if path.endswith(("/uploads", "/commits"))]


def test_a_folder_that_passes_is_committed_with_what_was_run(lakeside: Gateway, copy: Path, capsys: Any) -> None:
    (copy / "b.txt").write_text("b")
    (copy / "people.csv").write_text("age\n30\n")
    assert main(["data", "sync", "-C", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1
    assert lakeside.attested == {"ours": lakeside.demanded[-1]["python"]["blake3"]}


def test_a_program_says_why(lakeside: Gateway, copy: Path, capsys: Any) -> None:
    for name in ("b.txt", "bad.txt"):
        (copy / name).write_text("b")
    (copy / "people.csv").write_text("age\n30\n")
    assert main(["data", "sync", "-C", str(copy)]) == 1
    assert "ours: bad.txt is there" in capsys.readouterr().err


def test_a_program_that_was_changed_or_is_gone_is_not_the_one(lakeside: Gateway, copy: Path, capsys: Any) -> None:
    (copy / "b.txt").write_text("b")
    (copy / "people.csv").write_text("age\n30\n")
    program = copy.parents[1] / "checks" / "ours.py"
    program.write_text("raise SystemExit(0)")
    assert main(["data", "sync", "-C", str(copy)]) == 1
    assert "not the text" in capsys.readouterr().err
    program.unlink()
    assert main(["data", "sync", "-C", str(copy)]) == 1
    assert "checks/ours.py lies neither" in capsys.readouterr().err
    assert lakeside.versions == []
