"""What `make test-nfs` says where it cannot run, and what it runs where it can."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nfs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = importlib.util.spec_from_file_location("tools_nfs", ROOT / "tools/nfs/run.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", ["run.py"])
    monkeypatch.delenv("NFS", raising=False)
    return module


@pytest.mark.parametrize(("wish", "code"), [(None, 3), ("optional", 0)])
def test_it_says_loudly_that_it_did_not_run(
    nfs: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wish: str | None,
    code: int,
) -> None:
    monkeypatch.setattr(nfs, "PACKAGES", {"libc6": "/", "user-mode-linux": "/nowhere/linux.uml"})
    if wish is not None:
        monkeypatch.setenv("NFS", wish)
    assert nfs.main() == code
    said = capsys.readouterr().err
    assert "NOT RUN" in said
    assert said.strip().endswith(" user-mode-linux")


def test_tests_that_are_named_are_run_and_else_those_of_the_folder(nfs: ModuleType) -> None:
    every = [item for item in nfs.arguments(["-x"]) if item.startswith(nfs.TESTS)]
    assert len(every) == len(nfs.ON_THE_FOLDER)
    assert all((ROOT / item).is_file() for item in every)
    named = f"{nfs.TESTS}/test_fill.py::test_an_unknown_site_is_waited_for_with_a_reason"
    assert [item for item in nfs.arguments([named]) if item.startswith(nfs.TESTS)] == [named]


def test_a_guest_that_dies_early_is_a_failure(
    nfs: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nfs, "PACKAGES", {"user-mode-linux": "/bin/true"})
    monkeypatch.setattr(nfs, "OUT", tmp_path / "out")
    assert nfs.main() == 1
    assert "ended before its tests did" in capsys.readouterr().err
