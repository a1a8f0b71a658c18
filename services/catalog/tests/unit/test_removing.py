"""Removing: a tombstone and an event, refused where things rest on it, and taken back while the bytes are there."""

from __future__ import annotations

import pytest

from catalog.application.datasets import describe_dataset
from catalog.application.fsck.check import check
from catalog.application.removing import Remove, remove, restore
from catalog.application.versions import find_dataset, find_version
from catalog.domain.records import edge
from catalog.errors import DatasetNotFound, NameTaken, StillTheHead, VersionInUse, VersionRemoved

from .conftest import ANNA


@pytest.fixture
async def two(world):
    """A dataset of two versions."""
    await world.dataset()
    first = (await world.commit(await world.push(a=b"one"))).body
    await world.commit(await world.push(a=b"two"), parent=first["commit"])
    return world


async def _remove(world, reference=None, **more):
    return await world.run(remove, Remove("digits", reference, **more), ANNA, clock=world.clock)


async def _restore(world, reference=None):
    return await world.run(restore, "digits", reference, ANNA)


async def test_a_removed_version_is_gone_but_remembered(two) -> None:
    reply = await _remove(two, "1", reason="consent withdrawn")
    assert reply.body["removed"]["reason"] == "consent withdrawn"
    for reference in ("1", reply.body["commit"][:12]):
        with pytest.raises(VersionRemoved) as caught:
            await find_version("default", "digits", reference, documents=two.documents)
        assert caught.value.status == 410
        assert "anna" in caught.value.message
    (event,) = two.events("dataset.removed")
    assert (event.data.version, event.data.commit, event.data.reason) == (
        1,
        reply.body["commit"],
        "consent withdrawn",
    )
    assert (await find_version("default", "digits", "latest", documents=two.documents)).version == 2


async def test_removing_twice_is_removing_once(two) -> None:
    first = await _remove(two, "1", reason="one")
    again = await _remove(two, "1", reason="two")
    assert again.body["removed"] == first.body["removed"]
    assert len(two.events("dataset.removed")) == 1


async def test_the_head_cannot_be_removed_without_the_dataset(two) -> None:
    with pytest.raises(StillTheHead):
        await _remove(two, "latest")


async def test_what_things_rest_on_is_removed_only_by_force(two) -> None:
    async def use(*, uow) -> None:
        await uow.edges.add(edge("default", "dataset:digits@1", "input", "run:r-1"))

    await two.run(use)
    for reference in ("1", None):
        with pytest.raises(VersionInUse) as caught:
            await _remove(two, reference)
        assert caught.value.context["used_by"] == ["run:r-1"]
    await _remove(two, "1", force=True)
    with pytest.raises(VersionRemoved):
        await find_version("default", "digits", "1", documents=two.documents)


async def test_a_version_comes_back(two) -> None:
    await _remove(two, "1")
    reply = await _restore(two, "1")
    assert reply.body["removed"] is None
    assert (await find_version("default", "digits", "1", documents=two.documents)).version == 1
    assert len(two.events("dataset.restored")) == 1
    await _restore(two, "1")
    assert len(two.events("dataset.restored")) == 1


async def test_a_removed_dataset_is_gone_and_comes_back_whole(two) -> None:
    await _remove(two)
    for call in (find_dataset("default", "digits", documents=two.documents), _commit_on(two)):
        with pytest.raises(DatasetNotFound) as caught:
            await call
        assert "removed" in caught.value.message
    with pytest.raises(DatasetNotFound):
        await find_version("default", "digits", "1", documents=two.documents)
    await _restore(two)
    assert (await find_version("default", "digits", "1", documents=two.documents)).version == 1
    (event,) = two.events("dataset.removed")
    assert (event.data.version, event.data.commit) == (None, None)


async def _commit_on(world) -> None:
    await world.commit(await world.push(a=b"three"))


async def test_a_name_that_is_used_again_counts_on_and_forgets(two) -> None:
    await _remove(two)
    reply = await two.run(describe_dataset, "digits", "new", ANNA, clock=two.clock)
    assert (reply.status, reply.body["head"]) == (201, None)
    third = (await two.commit(await two.push(a=b"three"))).body
    assert (third["version"], third["parent"]) == (3, None)
    for number in ("1", "2"):
        with pytest.raises(VersionRemoved):
            await find_version("default", "digits", number, documents=two.documents)
        with pytest.raises(NameTaken):
            await _restore(two, number)
    await two.settle()
    report = await check(documents=two.documents, lake=two.lake, clock=two.clock)
    assert report["violations"] == []


async def test_fsck_does_not_miss_what_was_removed(two) -> None:
    await _remove(two, "1")
    await two.settle()
    report = await check(documents=two.documents, lake=two.lake, clock=two.clock)
    assert report["violations"] == []
