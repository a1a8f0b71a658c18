"""Versions read by name: through the SDK, and through fsspec."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from millrace.errors import Invalid, NotFound
from millrace_sdk import Dataset, folder
from millrace_sdk.folder import Config
from millrace_sdk.fs import MillraceFileSystem

from .gateway import Gateway

pytestmark = pytest.mark.servers
FILES = {f"train/{index % 2}/{index:02d}.txt": f"file {index}".encode() for index in range(20)} | {
    "top.csv": b"a,b\n1,2\n"
}


@pytest.fixture
def version(lakeside: Gateway, tmp_path: Path) -> Path:
    root = tmp_path / "digits"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    folder.write(root, Config("digits"))
    folder.run(root, Config("digits"), lambda copy: copy.sync("first"))
    return root


def test_a_version_is_opened_by_name(version: Path) -> None:
    with Dataset.open("digits@1") as dataset:
        assert list(dataset.paths) == sorted(FILES)
        assert dataset.read("train/1/03.txt") == b"file 3"
        assert dict(dataset.samples(seed=1)) == FILES
        assert dict(dataset.samples(seed=1, window=1)) == FILES
    with Dataset.open("digits") as dataset:
        assert len(dataset) == len(FILES)
    for bad, error in (("@1", Invalid), ("digits@2", NotFound), (version.parent / "nowhere", Invalid)):
        with pytest.raises(error):
            Dataset.open(bad)


def test_a_folder_is_opened_as_it_lies(version: Path) -> None:
    with Dataset.open(version) as dataset:
        assert dict(dataset.samples()) == FILES


def test_versions_are_an_fsspec_file_system(version: Path) -> None:
    with fsspec.open("millrace://default/digits@1/top.csv", "rb") as file:
        assert file.read() == FILES["top.csv"]
    files = MillraceFileSystem()
    base = "millrace://default/digits@1"
    assert files.ls(base, detail=False) == ["default/digits@1/top.csv", "default/digits@1/train"]
    assert files.ls(f"{base}/train", detail=False) == ["default/digits@1/train/0", "default/digits@1/train/1"]
    assert files.info(f"{base}/train/0/02.txt")["size"] == 6
    assert files.isdir(f"{base}/train/0")
    assert files.cat_file(f"{base}/train/0/02.txt", 1, 3) == b"il"
    found = {name.removeprefix("default/digits@1/"): files.cat_file(name) for name in files.find(base)}
    assert found == FILES
    assert files.glob(f"{base}/train/0/*2.txt") == [
        "default/digits@1/train/0/02.txt",
        "default/digits@1/train/0/12.txt",
    ]
    for missing in (
        f"{base}/nothing",
        f"{base}/train/0/02.txt/x",
        "millrace://default",
        "millrace://default/digits@9/x",
    ):
        assert not files.exists(missing)
    with pytest.raises(FileNotFoundError):
        files.cat_file(f"{base}/nothing")
    with pytest.raises(OSError, match="reading only"):
        files.open(f"{base}/new", "wb")
