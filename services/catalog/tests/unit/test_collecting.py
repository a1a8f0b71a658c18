"""Garbage collection: what no version needs goes, what one needs stays, whatever happens in between."""

from __future__ import annotations

from datetime import timedelta

import pytest

from catalog.application.collecting import ask_collection, find_garbage, stop_collection
from catalog.application.datasets import describe_dataset
from catalog.application.removing import Remove, remove, restore
from catalog.application.sweeping import Collector
from catalog.errors import NameTaken, ObjectMissing
from millrace import failpoints
from millrace.datasets.keys import chunk_key, manifest_key, pack_key
from millrace.errors import Corrupt, Unavailable

from .conftest import ANNA

DAYS = timedelta(days=3)


class Time:
    """A clock that is set by hand."""

    def __init__(self, clock) -> None:
        self._clock = clock
        self.later = timedelta()

    def now(self):
        return self._clock.now() + self.later

    def monotonic(self) -> float:
        return self.later.total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.later += timedelta(seconds=seconds)


@pytest.fixture
async def old(world):
    """Two versions with a file each, the first of them removed long ago; and a pack that nobody committed."""
    world.clock = Time(world.clock)
    await world.dataset()
    world.pushes = [await world.push(a=b"one", same=b"same"), await world.push(a=b"two", same=b"same")]
    world.pushes.append(await world.push(c=b"never committed"))
    first = (await world.commit(world.pushes[0])).body
    await world.commit(world.pushes[1], parent=first["commit"])
    await world.run(remove, Remove("digits", "1"), ANNA, clock=world.clock)
    world.collector = Collector(world.documents, world.transact, world.lake, world.clock, settle=600)
    world.clock.later = DAYS
    return world


async def _ask(world, grace: timedelta = timedelta(days=2)):
    cutoff = world.clock.now() - grace
    return await world.run(ask_collection, "default", cutoff, "anna", clock=world.clock)


async def _collect(world) -> None:
    await world.collector.step()
    world.clock.later += timedelta(seconds=601)
    await world.collector.step()


async def _dies_at(point: str, world, monkeypatch) -> None:
    monkeypatch.setattr(failpoints, "_ARMED", failpoints.parse(f"{point}=raise"))
    monkeypatch.setattr(failpoints, "_HITS", {})
    with pytest.raises(Unavailable, match=point):
        await world.collector.step()


def _packs(world, number: int) -> list[str]:
    return [pack_key("default", pack) for pack in world.pushes[number].packs]


async def test_what_no_version_needs_goes_and_the_rest_stays(old) -> None:
    before = set(old.store.objects)
    await _ask(old)
    await _collect(old)
    gone = before - set(old.store.objects)
    assert {*_packs(old, 0), *_packs(old, 2), manifest_key("default", old.pushes[0].manifest_id)} <= gone
    live = await old.lake.objects_of("default", old.pushes[1].manifest_id)
    for kind, name in live:
        assert await old.lake.missing("default", kind, [name]) == []
    collection = await old.documents.collections.get("default")
    assert (collection.state, collection.swept.objects, collection.condemned.objects) == ("done", len(gone), 0)
    assert collection.swept.bytes > 0
    plan = await find_garbage("default", old.clock.now(), documents=old.documents, lake=old.lake)
    assert plan.objects == []


async def test_nothing_goes_before_it_was_condemned_for_long_enough(old) -> None:
    before = dict(old.store.objects)
    await _ask(old)
    for _ in range(3):
        await old.collector.step()
    assert old.store.objects == before
    collection = await old.documents.collections.get("default")
    assert collection.state == "waiting"
    assert "600 s" in collection.reason


async def test_another_process_waits_by_its_own_clock(old) -> None:
    before = dict(old.store.objects)
    await _ask(old)
    await old.collector.step()
    old.clock.later += timedelta(days=30)
    fresh = Collector(old.documents, old.transact, old.lake, old.clock, settle=600)
    await fresh.step()
    assert old.store.objects == before


async def test_what_is_young_or_was_removed_lately_stays(old) -> None:
    await _ask(old, grace=DAYS + timedelta(days=1))
    before = dict(old.store.objects)
    await _collect(old)
    assert old.store.objects == before
    await old.run(restore, "digits", "1", ANNA)


async def test_a_commit_spares_what_it_needs(old) -> None:
    """The first version's tree comes back while its packs are condemned."""
    await _ask(old)
    await old.collector.step()
    head = (await old.documents.datasets.get("default/digits")).head
    again = await old.commit(old.pushes[0], parent=head.commit)
    assert again.status == 201
    old.clock.later += timedelta(seconds=601)
    await old.collector.step()
    assert set(_packs(old, 0)) <= set(old.store.objects)
    assert not set(_packs(old, 2)) & set(old.store.objects)


async def test_a_commit_that_comes_while_it_is_swept_is_refused_and_may_come_again(old, monkeypatch) -> None:
    await _ask(old)
    await old.collector.step()
    old.clock.later += timedelta(seconds=601)
    head = (await old.documents.datasets.get("default/digits")).head
    await _dies_at("collect.G2.after", old, monkeypatch)
    with pytest.raises(ObjectMissing):
        await old.commit(old.pushes[0], parent=head.commit)
    fresh = Collector(old.documents, old.transact, old.lake, old.clock, settle=600)
    await fresh.step()
    assert not set(_packs(old, 0)) & set(old.store.objects)
    assert await old.documents.condemned.count({"state": "sweeping"}) == 0
    pushed = await old.push(a=b"one", same=b"same")
    assert (await old.commit(pushed, parent=head.commit)).status == 201


async def test_a_crash_after_the_sweep_is_finished_later(old, monkeypatch) -> None:
    await _ask(old)
    await old.collector.step()
    old.clock.later += timedelta(seconds=601)
    await _dies_at("collect.G3.after", old, monkeypatch)
    await Collector(old.documents, old.transact, old.lake, old.clock, settle=600).step()
    assert (await old.documents.collections.get("default")).state == "done"


async def test_a_manifest_that_cannot_be_read_stops_everything(old) -> None:
    key = manifest_key("default", old.pushes[1].manifest_id)
    kept = old.store.objects.pop(key)
    await _ask(old)
    before = set(old.store.objects)
    with pytest.raises(ObjectMissing):
        await old.collector.step()
    old.store.objects[key] = b"x" + kept[1:]
    with pytest.raises(Corrupt):
        await old.collector.step()
    del old.store.objects[key]
    assert set(old.store.objects) == before


async def test_a_stopped_collection_spares_what_is_condemned(old) -> None:
    before = dict(old.store.objects)
    await _ask(old)
    await old.collector.step()
    await old.run(stop_collection, "default", "anna", clock=old.clock)
    old.clock.later += timedelta(seconds=601)
    await old.collector.step()
    assert old.store.objects == before
    assert await old.documents.condemned.count({}) == 0
    assert (await old.run(restore, "digits", "1", ANNA)).status == 200


async def test_what_a_collection_reaches_is_not_restored(old) -> None:
    await _ask(old)
    await old.collector.step()
    with pytest.raises(NameTaken):
        await old.run(restore, "digits", "1", ANNA)


async def test_a_whole_dataset_and_its_earlier_life_go(old) -> None:
    await old.run(remove, Remove("digits"), ANNA, clock=old.clock)
    await old.run(describe_dataset, "digits", "", ANNA, clock=old.clock)
    old.clock.later += DAYS
    await _ask(old)
    await _collect(old)
    assert old.store.objects == {}


async def test_other_projects_and_foreign_objects_are_left_alone(old) -> None:
    foreign = {
        pack_key("other", "a" * 64): b"x",
        "default/packs/README": b"x",
        "default/packs/aa/../x": b"x",
        "default/models/aa": b"x",
        chunk_key("default", "b" * 64) + "x": b"x",
    }
    old.store.objects.update(foreign)
    await _ask(old)
    await _collect(old)
    assert foreign.items() <= old.store.objects.items()
