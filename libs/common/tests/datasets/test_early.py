"""A copy that is read while it is filled: the same samples in the same order, packs in the order of need."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from millrace.datasets import early, folder_push, waiting
from millrace.datasets.early import open_early
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.push import push
from millrace.datasets.readers import Dataset
from millrace.datasets.sample_order import Position
from millrace.datasets.sample_sources import LakeSource
from millrace.datasets.shelf import Shelf
from millrace.datasets.turns import Turns, in_turn
from millrace.datasets.waiting import FillFailed, Standing
from millrace.errors import DeadlineExceeded, NotFound, Unavailable
from millrace.testing.objects import InMemoryObjectStore

from .helpers import PROJECT, write_tree

FILES = {f"train/{index:03d}.png": bytes([index]) * 500 for index in range(64)} | {"big.bin": b"b" * 9_000_000}


class GatedStore(InMemoryObjectStore):
    """Hands out packs and chunks only as fast as the test lets it, and remembers their order."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []
        self.room = threading.Semaphore(0)

    async def get(self, key: str) -> bytes:
        if "/packs/" in key or "/chunks/" in key:
            self.got.append(key.rpartition("/")[2])
            while not self.room.acquire(blocking=False):
                await asyncio.sleep(0.002)
        return await super().get(key)


class Told:
    """Whoever fills, for a reader: it passes wishes on to the fill, and lets it have one more object for each."""

    def __init__(self, turns: Turns, store: GatedStore, step: int = 1) -> None:
        self.turns, self.store, self.step = turns, store, step
        self.standing = Standing("coming")
        self.said: list[tuple[list[str], float]] = []

    def want(self, names: Sequence[str], waited: float) -> Standing:
        self.said.append((list(names), waited))
        self.turns.want({"run": list(names)})
        if self.step:
            self.store.room.release(self.step)
        return self.standing

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GatedStore, Manifest]:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 4_000)
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.01)
    store = GatedStore()
    write_tree(tmp_path / "tree", FILES)
    return store, asyncio.run(push(tmp_path / "tree", store, project=PROJECT)).manifest


class Fill:
    """A fill in a thread of its own, as another process would do it; renames at its end."""

    def __init__(self, store: GatedStore, manifest: Manifest, root: Path, token: int = 1) -> None:
        self.turns = Turns()
        self.final, self.shelf = root / "final", root / ".early" / "copy"
        self.staging = root / f"staging.{token}"
        root.mkdir(exist_ok=True)
        self.opened = threading.Event()
        self.failure: BaseException | None = None
        self.result: Any = None
        self._store, self._manifest = store, manifest
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> Fill:
        self._thread.start()
        assert self.opened.wait(10)
        return self

    def _work(self) -> None:
        async def opened() -> None:
            self.opened.set()

        shelf = Shelf(self.shelf, self.turns, opened)
        try:
            self.result = asyncio.run(
                fill_packs(self._store, self._manifest, self.staging, project=PROJECT, concurrency=1, shelf=shelf)
            )
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
        else:
            self.staging.rename(self.final)
            shutil.rmtree(self.shelf)

    def end(self) -> None:
        self._store.room.release(1_000)
        self._thread.join(20)
        assert not self._thread.is_alive()


def ready_copy(lake: tuple[GatedStore, Manifest], folder: Path) -> Dataset:
    store, manifest = lake
    store.room.release(1_000)
    asyncio.run(fill_packs(store, manifest, folder, project=PROJECT))
    while store.room.acquire(blocking=False):
        pass
    store.got.clear()
    return Dataset.open_packs(folder)


def opened(fill: Fill, told: Told, **options: Any) -> Dataset:
    manifest, source = open_early(fill.final, fill.shelf, told, **options)
    return Dataset(None, manifest, source)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_samples_and_their_order_are_those_of_a_whole_copy(
    lake: tuple[GatedStore, Manifest], tmp_path: Path, window: int | None, shard: tuple[int, int]
) -> None:
    options: dict[str, Any] = {"seed": 5, "epoch": 2, "window": window, "shard": shard, "read_ahead": 4}
    with ready_copy(lake, tmp_path / "whole") as whole:
        expected = list(whole.samples(**options))
    fill = Fill(*lake, tmp_path / "site").start()
    with opened(fill, Told(fill.turns, lake[0])) as dataset:
        first = next(iter(dataset.samples(**options)))
        assert not fill.final.exists()
        assert first == expected[0]
        assert list(dataset.samples(**options)) == expected
    fill.end()


def test_what_is_needed_next_is_fetched_next(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    store, manifest = lake
    fill = Fill(store, manifest, tmp_path / "site").start()
    with opened(fill, Told(fill.turns, store)) as dataset:
        list(dataset.batches(4, at=Position(3), window=1))
        names = [name for _, name in dataset._source._objects(dataset.order(3, window=1))]  # type: ignore[attr-defined]
    fill.end()
    began = store.got[0]  # the fill had begun with one before anybody asked
    assert store.got == [began, *(name for name in names if name != began)]


def test_what_is_read_by_path_is_asked_for_whole(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    fill = Fill(*lake, tmp_path / "site").start()
    told = Told(fill.turns, lake[0])
    with opened(fill, told) as dataset:
        rows = [60, 30, 1, 45]
        packs = [dataset._manifest.packs[pack].id for pack in dataset._groups[rows].tolist()]
        assert len(dataset.read_many(rows)) == 4
    fill.end()
    assert told.said[0][0] == [name for name in packs if name in told.said[0][0]]
    assert len(told.said[0][0]) >= 3


def test_a_reader_goes_on_where_the_copy_is_published(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    fill = Fill(*lake, tmp_path / "site").start()
    told = Told(fill.turns, lake[0])
    with ready_copy(lake, tmp_path / "whole") as whole, opened(fill, told) as dataset:
        expected, samples = list(whole.samples(seed=1)), dataset.samples(seed=1, read_ahead=2, window=1)
        begun = [next(samples) for _ in range(6)]
        fill.end()
        assert fill.final.is_dir()
        assert not fill.shelf.exists()
        seen = len(told.said)
        assert sorted(begun + list(samples)) == sorted(expected)
        assert len(told.said) <= seen + 2


def test_another_owner_goes_on_and_fetches_nothing_twice(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    store, manifest = lake
    with ready_copy(lake, tmp_path / "whole") as whole:
        expected = list(whole.samples(seed=2, window=2))
    first = Fill(store, manifest, tmp_path / "site").start()
    told = Told(first.turns, store)
    dataset = opened(first, told)
    samples = dataset.samples(seed=2, window=2, read_ahead=4)
    begun = [next(samples) for _ in range(10)]
    landed = {path.name for path in (first.shelf / "packs").iterdir()}
    shown = (first.shelf / "manifest").stat().st_ino
    # The first owner is gone: its staging folder is removed, and nothing of it is fetched any more.
    shutil.rmtree(first.staging)
    store.got.clear()
    second = Fill(store, manifest, tmp_path / "site", token=2).start()
    told.turns = second.turns
    assert begun + list(samples) == expected
    second.end()
    dataset.close()
    assert (second.final / "manifest").stat().st_ino == shown  # nothing lies there twice
    assert second.result.resumed_bytes >= sum(ref.size for ref in manifest.packs if ref.id in landed)
    assert second.result.fetched_bytes >= second.result.resumed_bytes


def test_a_damaged_pack_on_the_shelf_is_fetched_again(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    """What a power failure left there is never taken for good."""
    store, manifest = lake
    shelf = tmp_path / ".early" / "copy"
    Shelf(shelf).prepare(("packs", "chunks"))
    broken = manifest.packs[1].id
    (shelf / "packs" / broken).write_bytes(b"\0" * manifest.packs[1].size)
    store.room.release(1_000)
    asyncio.run(fill_packs(store, manifest, tmp_path / "new", project=PROJECT, shelf=Shelf(shelf)))
    assert broken in store.got
    assert (shelf / "packs" / broken).samefile(tmp_path / "new/packs" / broken)
    with Dataset.open_packs(tmp_path / "new") as dataset:
        assert dict(dataset.samples()) == FILES


def test_a_fill_that_failed_is_a_clear_error(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    fill = Fill(*lake, tmp_path / "site").start()
    told = Told(fill.turns, lake[0], step=0)
    with opened(fill, told) as dataset:
        told.standing = Standing("failed", "the lake lost pack 7")
        with pytest.raises(FillFailed, match="the lake lost pack 7"):
            dataset.read("train/001.png")
    fill.end()


def test_waiting_ends(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    fill = Fill(*lake, tmp_path / "site").start()
    told = Told(fill.turns, lake[0], step=0)
    with opened(fill, told, patience=0.1) as dataset:
        told.standing = Standing("coming", "waits for room")
        with pytest.raises(DeadlineExceeded, match="waits for room"):
            dataset.read("train/001.png")
        told.standing = Standing("there")
        dataset._source._waiter._told = float("-inf")  # type: ignore[attr-defined]
        with pytest.raises(NotFound):
            dataset.read("train/001.png")
    fill.end()
    with pytest.raises(DeadlineExceeded):
        open_early(tmp_path / "a", tmp_path / "b", Told(Turns(), lake[0]), patience=0.05)


def test_nobody_who_answers_is_no_end(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    fill = Fill(*lake, tmp_path / "site").start()

    class Away(Told):
        def want(self, names: Sequence[str], waited: float) -> Standing:
            super().want(names, waited)
            raise Unavailable("nobody answers")

    away = Away(fill.turns, lake[0])
    with opened(fill, away) as dataset:
        assert dataset.read("train/001.png") == FILES["train/001.png"]
    fill.end()


def test_what_has_not_come_is_read_from_the_lake_if_that_is_wanted(
    lake: tuple[GatedStore, Manifest], tmp_path: Path
) -> None:
    store, manifest = lake
    other = InMemoryObjectStore()
    other.objects = store.objects
    fill = Fill(store, manifest, tmp_path / "site").start()
    with Dataset.open_store(other, manifest, project=PROJECT) as straight:
        source = straight._source
        assert isinstance(source, LakeSource)
        with opened(fill, Told(fill.turns, store, step=0), fallback=lambda _: source) as dataset:
            assert dict(dataset.samples(seed=1)) == FILES
            assert dataset.read_range("big.bin", 8_999_990, 20) == b"b" * 10
            assert not fill.final.exists()
    fill.end()


def test_loaders_see_the_same(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    with ready_copy(lake, tmp_path / "whole") as whole:
        expected = list(whole.as_webdataset(at=Position(4), window=2, shard=(1, 2)))
    fill = Fill(*lake, tmp_path / "site").start()
    with opened(fill, Told(fill.turns, lake[0])) as dataset:
        assert list(dataset.as_webdataset(at=Position(4), window=2, shard=(1, 2))) == expected
    fill.end()


@pytest.mark.timeout(300)
def test_tensorflow_reads_early(lake: tuple[GatedStore, Manifest], tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    with ready_copy(lake, tmp_path / "whole") as whole:
        expected = list(whole.samples(seed=4, window=2))
    fill = Fill(*lake, tmp_path / "site").start()
    with opened(fill, Told(fill.turns, lake[0])) as dataset:
        got = dataset.as_tf_data(batch=4, at=Position(4), window=2).as_numpy_iterator()
        assert [(path.decode(), data) for path, data in got] == expected
    fill.end()


def test_readers_take_turns() -> None:
    turns = Turns("abcdefgh")
    turns.want({"one": list("hgf"), "two": list("hde")})
    assert [turns.take() for _ in range(4)] == ["h", "d", "g", "e"]
    turns.want({"three": ["c"], "one": ["f"]})
    assert [turns.take() for _ in range(5)] == ["f", "c", "a", "b", None]


def test_lists_are_merged_in_turn() -> None:
    assert in_turn([list("ab"), list("acd"), []]) == ["a", "b", "c", "d"]
    assert in_turn([]) == []


def test_wishes_are_few(lake: tuple[GatedStore, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "MOST_WANTED", 3)
    fill = Fill(*lake, tmp_path / "site").start()
    told = Told(fill.turns, lake[0])
    with opened(fill, told) as dataset:
        list(dataset.samples(seed=1, read_ahead=2))
    fill.end()
    assert max(len(names) for names, _ in told.said) == 3
    assert sum(waited for _, waited in told.said) > 0
