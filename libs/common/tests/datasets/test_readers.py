from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from millrace.datasets import folder_push, sample_sources
from millrace.datasets.fill import fill
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.push import push
from millrace.datasets.readers import Dataset
from millrace.datasets.sample_order import Position
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


def landed(store: InMemoryObjectStore, manifest: Manifest, folder: Path) -> Dataset:
    asyncio.run(fill_packs(store, manifest, folder, project=PROJECT))
    return Dataset.open_packs(folder)


@pytest.fixture(params=["tree", "checked tree", "packs", "store"])
def dataset(
    request: pytest.FixtureRequest, lake: tuple[InMemoryObjectStore, Manifest], tmp_path: Path
) -> Iterator[Dataset]:
    store, manifest = lake
    dataset = {
        "tree": lambda: Dataset.open_tree(tmp_path / "tree"),
        "checked tree": lambda: Dataset.open_tree(tmp_path / "tree", manifest),
        "packs": lambda: landed(store, manifest, tmp_path / "packs"),
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


def test_an_epoch_goes_on_where_it_was_left(dataset: Dataset) -> None:
    whole = [row for rows, _ in dataset.batches(7, at=Position(5, 2)) for row in rows]
    first = dataset.batches(7, at=Position(5, 2))
    read = [*next(first)[0], *next(first)[0]]
    assert first.position == Position(5, 2, 14)
    assert len(first) == -(-(len(FILES) - 14) // 7)
    rest = [row for rows, _ in dataset.batches(16, at=first.position) for row in rows]
    assert read + rest == whole
    # Two readers take over from one: what is left is read once, by both together.
    halves = [dataset.batches(5, at=first.position, shard=(part, 2)) for part in range(2)]
    assert sorted(row for half in halves for rows, _ in half for row in rows) == sorted(rest)
    for bad in (Position(1, 0, -1), Position(1, 0, len(FILES) + 1)):
        with pytest.raises(Invalid):
            dataset.batches(at=bad)
    with pytest.raises(Invalid):
        dataset.batches(0)


def test_a_window_keeps_packs_together(
    tmp_path: Path, memory: InMemoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 4_000)
    files = {f"{index:03d}": bytes([index]) * 500 for index in range(100)}
    write_tree(tmp_path / "tree", files)
    manifest = asyncio.run(push(tmp_path / "tree", memory, project=PROJECT)).manifest
    packs = manifest.table.column("pack").to_pylist()
    with landed(memory, manifest, tmp_path / "packs") as dataset:
        order = dataset.order(1, window=2).tolist()
        assert sorted(order) == list(range(100))
        assert order != dataset.order(2, window=2).tolist()
        visited = [packs[row] for row in order]
        last = {pack: place for place, pack in enumerate(visited)}
        first = {pack: visited.index(pack) for pack in last}
        open_at_once = [sum(first[pack] <= place <= last[pack] for pack in last) for place in range(100)]
        assert max(open_at_once) == 2
        assert dict(dataset.samples(seed=1, window=2)) == files
        monkeypatch.setattr(sample_sources, "LONGEST_READ", 1_200)
        monkeypatch.setattr(sample_sources, "OPEN_PACKS", 2)
        assert dict(dataset.samples()) == files


def test_damaged_packs_are_noticed(lake: tuple[InMemoryObjectStore, Manifest], tmp_path: Path) -> None:
    store, manifest = lake
    with landed(store, manifest, tmp_path / "packs") as dataset:
        pack = tmp_path / "packs/packs" / manifest.packs[0].id
        pack.chmod(0o640)
        pack.write_bytes(b"short")
        with pytest.raises(Corrupt):
            dataset.read(PATHS[1])
    pack.unlink()
    with Dataset.open_packs(tmp_path / "packs") as dataset, pytest.raises(NotFound):
        dataset.read(PATHS[1])
    with pytest.raises(NotFound):
        Dataset.open_packs(tmp_path / "tree")


def test_webdataset_groups_files_by_their_base_name(tmp_path: Path) -> None:
    files = {
        f"{split}/{index}.{kind}": f"{index}{kind}".encode()
        for split in "ab"
        for index in range(6)
        for kind in ("cls", "x.png")
    }
    write_tree(tmp_path / "tree", files)
    with Dataset.open_tree(tmp_path / "tree") as dataset:
        plain = list(dataset.as_webdataset())
        assert plain[0] == {"__key__": "a/0", "cls": b"0cls", "x.png": b"0x.png"}
        assert len(plain) == 12
        mixed = [sample["__key__"] for sample in dataset.as_webdataset(at=Position(3))]
        assert sorted(mixed) == [sample["__key__"] for sample in plain] != mixed
        halves = [[it["__key__"] for it in dataset.as_webdataset(at=Position(3), shard=(part, 2))] for part in (0, 1)]
        assert sorted(halves[0] + halves[1]) == sorted(mixed)


def test_tensorflow_reads_the_same_samples(dataset: Dataset) -> None:
    pytest.importorskip("tensorflow")
    expected = [(path, FILES[path]) for path in PATHS]
    got = [(path.decode(), data) for path, data in dataset.as_tf_data(batch=7).as_numpy_iterator()]
    assert got == expected
    shuffled = dataset.as_tf_data(at=Position(4), unbatch=False, batch=16).as_numpy_iterator()
    mixed = {path.decode(): data for paths, contents in shuffled for path, data in zip(paths, contents, strict=True)}
    assert mixed == FILES


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_readers_that_take_turns_see_the_batches_of_one(dataset: Dataset, workers: int) -> None:
    alone = list(dataset.batches(8, at=Position(5, 1, 3), shard=(1, 2)))
    theirs = [dataset.batches(8, at=Position(5, 1, 3), shard=(1, 2), turn=(it, workers)) for it in range(workers)]
    assert [len(batches) for batches in theirs] == [len(alone[it::workers]) for it in range(workers)]
    seen = [list(batches) for batches in theirs]
    assert [seen[number % workers][number // workers] for number in range(len(alone))] == alone
    with pytest.raises(Invalid):
        dataset.batches(8, turn=(2, 2))


def test_workers_of_a_torch_loader_take_batches_in_turn(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's two names stand in here; the real one is tried in tests/integrations."""
    worker: list[SimpleNamespace | None] = [None]
    stand_in = ModuleType("torch.utils.data")
    stand_in.IterableDataset = object  # type: ignore[attr-defined]
    stand_in.get_worker_info = lambda: worker[0]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.data", stand_in)
    samples = dataset.as_torch(at=Position(2), batch=8, shard=(1, 2))
    alone = list(samples)
    worker[0] = SimpleNamespace(id=1, num_workers=2)
    assert list(samples) == alone[8:16] + alone[24:]
    worker[0] = None
    other = list(dataset.as_torch(at=Position(2), shard=(0, 2)))
    assert sorted(path for path, _ in alone + other) == PATHS


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
