"""`MillraceDataset` in real Kedro pipelines."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("kedro") is None or importlib.util.find_spec("pandas") is None:
    pytest.skip("Kedro is not in this environment: `make integrations` installs it", allow_module_level=True)

import pandas as pd
from kedro.io import DataCatalog, SharedMemoryDataCatalog
from kedro.io.core import DatasetError
from kedro.pipeline import Pipeline, node
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner

from millrace_sdk import Catalog, Dataset
from millrace_sdk.integrations.kedro import MillraceDataset
from millrace_stack.stack import Stack

pytestmark = [pytest.mark.servers, pytest.mark.slow]
TYPE = "millrace_sdk.integrations.kedro.MillraceDataset"
FILES = {f"train/{number:02d}.txt": f"file {number}".encode() for number in range(20)}
RUN = "2026-11-25T10.00.00.000Z"


def count(scans: Dataset) -> pd.DataFrame:
    with scans:
        return pd.DataFrame({"path": list(scans.paths), "bytes": [len(data) for _, data in scans.samples()]})


def make() -> dict[str, Any]:
    return dict(FILES)


def double(counts: pd.DataFrame) -> pd.DataFrame:
    return counts.assign(bytes=counts["bytes"] * 2)


PIPELINE = Pipeline(
    [
        node(make, None, "scans", name="make"),
        node(count, "scans", "counts", name="count"),
        node(double, "counts", "doubled", name="double"),
    ]
)


def config(prefix: str, **more: Any) -> dict[str, Any]:
    return {
        "scans": {"type": TYPE, "dataset": f"{prefix}-scans@latest", **more},
        "counts": {"type": TYPE, "dataset": f"{prefix}-counts", "load_as": "table", "path": "counts.parquet", **more},
        "doubled": {
            "type": TYPE,
            "dataset": f"{prefix}-doubled",
            "load_as": "table",
            "path": "doubled.parquet",
            "message": "twice",
            "lineage": {"code": "abc123"},
            **more,
        },
    }


@pytest.mark.parametrize(
    ("runner", "kind"),
    [(SequentialRunner, DataCatalog), (ThreadRunner, DataCatalog), (ParallelRunner, SharedMemoryDataCatalog)],
)
def test_a_pipeline_runs_on_versions(catalog: Catalog, runner: Any, kind: Any) -> None:
    prefix = runner.__name__.lower()
    data = kind.from_config(config(prefix), save_version=RUN)
    runner().run(PIPELINE, data)
    found = data.load("doubled")
    assert list(found["path"]) == sorted(FILES)
    assert list(found["bytes"]) == [2 * len(FILES[path]) for path in sorted(FILES)]
    version = catalog.version(f"{prefix}-doubled", 1)
    assert version["message"] == "twice"
    assert {name: version["lineage"][name] for name in ("run", "source", "code")} == {
        "run": f"kedro:{RUN}",
        "source": "kedro",
        "code": "abc123",
    }


def test_each_save_is_a_version_and_loads_may_name_one(catalog: Catalog) -> None:
    entry = {"visits": {"type": TYPE, "dataset": "visits", "load_as": "table", "path": "visits.parquet"}}
    data = DataCatalog.from_config(entry)
    assert not data.exists("visits")
    for number in (1, 2, 3):
        data.save("visits", pd.DataFrame({"number": [number]}))
        assert data["visits"].resolve_load_version() == data["visits"].resolve_save_version()
    assert data.exists("visits")
    assert list(data.load("visits")["number"]) == [3]
    assert list(data.load("visits", version="1")["number"]) == [1]
    pinned = DataCatalog.from_config(entry, load_versions={"visits": "2"})
    assert list(pinned.load("visits")["number"]) == [2]
    assert data["visits"].list_versions() == ["visits@3", "visits@2", "visits@1"]
    data.save("visits", pd.DataFrame({"number": [3]}))
    assert catalog.dataset("visits")["head"]["version"] == 3, "what did not change is no version"


def test_a_run_of_kedro_names_what_it_saved(catalog: Catalog) -> None:
    entry = {"runs": {"type": TYPE, "dataset": "runs", "load_as": "table", "path": "runs.parquet"}}
    names = [f"2026-11-{day}T10.00.00.000Z" for day in (23, 24, 25)]
    for number, name in enumerate(names):
        DataCatalog.from_config(entry, save_version=name).save("runs", pd.DataFrame({"number": [number]}))
    for number, name in enumerate(names):
        assert list(DataCatalog.from_config(entry).load("runs", version=name)["number"]) == [number]
    with pytest.raises(DatasetError, match="no version of runs was saved by the run"):
        DataCatalog.from_config(entry).load("runs", version="2020-01-01T10.00.00.000Z")


def test_files_are_put_on_top(catalog: Catalog) -> None:
    dataset = MillraceDataset(dataset="heap", mode="append")
    dataset.save({"a.txt": "one", "b.txt": b"two"})
    dataset.save({"b.txt": b"three", "c/table.parquet": pd.DataFrame({"x": [1, 2]})})
    with dataset.load() as found:
        assert list(found.paths) == ["a.txt", "b.txt", "c/table.parquet"]
        assert found.read("b.txt") == b"three"
    dataset.release()


def test_a_folder_is_saved_and_loaded(catalog: Catalog, tmp_path: Path) -> None:
    for path, data in FILES.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(data)
    dataset = MillraceDataset(dataset="folder", load_as="folder", folder=str(tmp_path / "data" / "out"))
    dataset.save(str(tmp_path / "in"))
    target = dataset.load()
    assert (target / "train/07.txt").read_bytes() == FILES["train/07.txt"]
    (tmp_path / "in" / "train/07.txt").write_bytes(b"changed")
    dataset.save(tmp_path / "in")
    assert (dataset.load() / "train/07.txt").read_bytes() == b"changed"
    assert catalog.version("folder", 2)["lineage"]["source"] == "kedro"


def test_credentials_are_kedros(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    url, token = stack.state.urls["gateway"], stack.layout.owner_token.read_text().strip()
    given = {
        "by-file": {"url": url, "token_file": str(stack.layout.owner_token)},
        "by-value": {"url": url, "token": token},
        "wrong": {"url": url, "token": "mlr_wrong"},
    }
    entries = {name: {"type": TYPE, "dataset": f"secret-{name}", "credentials": name} for name in given}
    data = DataCatalog.from_config(entries, credentials=given)
    for name in ("by-file", "by-value"):
        data.save(name, {"a": b"1"})
        with data.load(name) as found:
            assert found.read("a") == b"1"
        assert token not in repr(data[name]) + str(data[name]._describe())
        assert pickle.loads(pickle.dumps(data[name]))._describe() == data[name]._describe()
    with pytest.raises(DatasetError):
        data.save("wrong", {"a": b"1"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": ""},
        {"dataset": "../x"},
        {"dataset": "a", "load_as": "picture"},
        {"dataset": "a", "load_as": "table"},
        {"dataset": "a", "load_as": "folder"},
        {"dataset": "a", "mode": "overwrite"},
        {"dataset": "a", "project": "Not A Project"},
        {"dataset": "a", "credentials": {"password": "x"}},
    ],
)
def test_what_cannot_be_is_said_when_the_catalog_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(DatasetError):
        DataCatalog.from_config({"x": {"type": TYPE, **wrong}}).get("x")


def test_what_cannot_be_saved_is_said(catalog: Catalog) -> None:
    for dataset, data in (
        (MillraceDataset(dataset="new@1"), {"a": b"1"}),
        (MillraceDataset(dataset="new"), 7),
        (MillraceDataset(dataset="new"), {"../a": b"1"}),
        (MillraceDataset(dataset="new", path="a.csv"), pd.DataFrame({"x": [1]})),
        (MillraceDataset(dataset="new", mode="append"), "some/folder"),
    ):
        with pytest.raises(DatasetError):
            dataset.save(data)
    missing = MillraceDataset(dataset="without", load_as="table", path="visits.parquet")
    missing.save({"a": b"1"})
    with pytest.raises(DatasetError, match=r"has no 'visits\.parquet'"):
        missing.load()
