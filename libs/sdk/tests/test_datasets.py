"""Versions read by name: through the SDK, and through fsspec."""

from __future__ import annotations

import pickle
from multiprocessing import get_context
from pathlib import Path

import fsspec
import pytest

from millrace.datasets.limits import CHUNK
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


async def test_a_version_is_opened_where_a_loop_runs(version: Path) -> None:
    """As in a notebook."""
    with Dataset.open("digits@1") as dataset:
        assert dataset.read("train/1/03.txt") == b"file 3"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_version_is_read_after_a_fork(version: Path) -> None:
    """As in the workers of a data loader: the child has no thread of its parent's, and shares no connection."""
    with Dataset.open("digits@1") as dataset:
        assert dataset.read("train/1/03.txt") == b"file 3"
        ours, theirs = get_context("fork").Pipe()
        child = get_context("fork").Process(target=lambda: theirs.send(dict(dataset.samples(seed=1))))
        child.start()
        try:
            assert ours.poll(60), "the child hangs"
            assert ours.recv() == FILES
        finally:
            child.kill()
            child.join()
        assert dict(dataset.samples(seed=2)) == FILES


def test_a_version_is_sent_to_another_process(version: Path) -> None:
    with Dataset.open("digits@1") as dataset, pickle.loads(pickle.dumps(dataset)) as copy:
        assert copy.read("top.csv") == FILES["top.csv"]
    with Dataset.open(version) as dataset, pickle.loads(pickle.dumps(dataset)) as copy:
        assert copy.read("top.csv") == FILES["top.csv"]


def test_large_files_are_read_in_part(version: Path, lakeside: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    big = bytes(range(251)) * ((CHUNK + 3_000_000) // 251)
    (version / "big.bin").write_bytes(big)
    folder.run(version, Config("digits"), lambda copy: copy.sync("second"))
    with Dataset.open("digits@2") as dataset:
        for start, length in ((0, 5), (CHUNK - 5, 10), (len(big) - 3, 100), (len(big), 1), (7, 0)):
            assert dataset.read_range("big.bin", start, length) == big[start : start + length]
        with pytest.raises(Invalid):
            dataset.read_range("big.bin", -1, 1)
    monkeypatch.setattr(Dataset, "read", None)
    with fsspec.open("millrace://default/digits@2/big.bin", "rb", block_size=65_536) as file:
        file.seek(CHUNK - 3)
        assert file.read(6) == big[CHUNK - 3 : CHUNK + 3]


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
