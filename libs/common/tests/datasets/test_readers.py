from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.datasets.fill import fill
from millrace.datasets.manifest import Manifest
from millrace.datasets.push import push
from millrace.datasets.readers import Dataset
from millrace.errors import Corrupt, Invalid, NotFound
from millrace.testing.objects import InMemoryObjectStore

from .helpers import PROJECT, write_tree

FILES = {f"{index % 4}/{index:03d}": f"file {index}".encode() * (index % 9) for index in range(50)}
FILES["big"] = bytes(range(256)) * 40_000
PATHS = sorted(FILES)


@pytest.fixture
def lake(tmp_path: Path, memory: InMemoryObjectStore) -> tuple[InMemoryObjectStore, Manifest]:
    write_tree(tmp_path / "tree", FILES)
    return memory, asyncio.run(push(tmp_path / "tree", memory, project=PROJECT)).manifest


@pytest.fixture(params=["tree", "checked tree", "store"])
def dataset(
    request: pytest.FixtureRequest, lake: tuple[InMemoryObjectStore, Manifest], tmp_path: Path
) -> Iterator[Dataset]:
    store, manifest = lake
    dataset = {
        "tree": lambda: Dataset.open_tree(tmp_path / "tree"),
        "checked tree": lambda: Dataset.open_tree(tmp_path / "tree", manifest),
        "store": lambda: Dataset.open_store(store, manifest, project=PROJECT),
    }[request.param]()
    yield dataset
    dataset.close()


def test_files_are_read_by_path_and_position(dataset: Dataset) -> None:
    assert len(dataset) == len(FILES)
    assert list(dataset.paths) == PATHS
    assert dataset[0] == FILES[PATHS[0]]
    assert dataset.read("big") == FILES["big"]
    assert dataset.read_many([3, 1, 3, len(FILES) - 1]) == [FILES[PATHS[index]] for index in (3, 1, 3, -1)]
    with pytest.raises(NotFound):
        dataset.read("../tree/big")
    with pytest.raises(IndexError):
        dataset[len(FILES)]


def test_samples_come_in_an_order_that_the_seed_decides(dataset: Dataset) -> None:
    plain = list(dataset.samples())
    assert plain == [(path, FILES[path]) for path in PATHS]
    one = list(dataset.samples(seed=1, read_ahead=7))
    assert dict(one) == FILES
    assert one == list(dataset.samples(seed=1))
    assert one != plain
    assert one != list(dataset.samples(seed=2))
    assert one != list(dataset.samples(seed=1, epoch=1))
    assert list(dataset.samples(seed=1, start=20)) == one[20:]


def test_shards_see_every_file_once(dataset: Dataset) -> None:
    parts = [[path for path, _ in dataset.samples(seed=3, shard=(part, 3))] for part in range(3)]
    assert sorted(itertools.chain.from_iterable(parts)) == PATHS
    with pytest.raises(Invalid):
        next(dataset.samples(shard=(3, 3)))


def test_the_order_never_changes(dataset: Dataset) -> None:
    assert dataset.order(7).tolist()[:8] == [33, 8, 40, 18, 12, 44, 35, 32]
    assert sorted(dataset.order(7).tolist()) == list(range(len(FILES)))


def test_a_changed_file_is_noticed(lake: tuple[InMemoryObjectStore, Manifest], tmp_path: Path) -> None:
    store, manifest = lake
    asyncio.run(fill(store, manifest, tmp_path / "cached", project=PROJECT))
    with Dataset.open_tree(tmp_path / "cached", manifest) as dataset:
        (tmp_path / "cached" / PATHS[5]).chmod(0o640)
        (tmp_path / "cached" / PATHS[5]).write_bytes(b"changed")
        with pytest.raises(Corrupt):
            dataset[5]
    for key in [key for key in store.objects if "/packs/" in key]:
        store.objects[key] = bytes(len(store.objects[key]))
    with Dataset.open_store(store, manifest, project=PROJECT) as dataset, pytest.raises(Corrupt):
        dataset[5]
