"""The check before anything is installed: on the standard library alone, naming what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_stack import preflight


def test_it_runs_without_any_package_and_passes_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", preflight.__file__], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "can run Millrace" in done.stdout


def test_everything_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(preflight.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.31")
    monkeypatch.setattr(preflight, "PYTHONS", ((3, 99),))
    monkeypatch.setattr(preflight, "libpython", lambda: None)
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    monkeypatch.setattr(preflight, "NEEDED_GIGABYTES", 10**9)
    found = preflight.missing(tmp_path)
    words = ["Darwin arm64", "2.31", "cpython", "libpython", "python3", "make is needed", "GB of disk"]
    assert len(found) == len(words)
    for sentence, word in zip(found, words, strict=True):
        assert word in sentence


def test_another_c_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: None)
    assert any("musl" in sentence for sentence in preflight.missing(tmp_path))
