"""The bus handlers: every event once, in any order, however often it comes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cache_manager.entrypoints.bus import subscriptions
from cache_manager.settings import Prefetch
from millrace.clock import SystemClock
from millrace.events import CacheRequested, DatasetCommitted, DatasetRemoved, build
from millrace.events.envelope import AnyEvent

pytestmark = pytest.mark.servers


def requested(version: Any, *, desired: Any = "present", sequence: int = 1) -> AnyEvent:
    data = CacheRequested(
        site="nfs-a", dataset=version.dataset, version=version.version, commit=version.commit, desired=desired
    )
    return build(
        data,
        source="/millrace/catalog",
        subject="s",
        project="default",
        sequence=sequence,
        clock=SystemClock(),
        correlation="story-1",
        principal="policy:p",
    )


async def deliver(manager: Any, event: AnyEvent, prefetch: tuple[Prefetch, ...] = ()) -> None:
    """Hand an event to its handler as the bus does."""
    for subscription in subscriptions(manager.world.clock, lambda: None, prefetch):
        if subscription.wants(event):

            async def work(uow: Any, handler: Any = subscription.handler) -> None:
                await handler(event, uow)

            await manager.transactor(work, inbox=(subscription.durable, event.key))


async def test_the_answer_belongs_to_the_story_of_the_request(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    request = requested(version)
    await deliver(manager, request)
    await lab.until_state(manager, lab.key(version), "READY")
    [ready] = await lab.events()
    assert (ready.correlationid, ready.causationid, ready.principal) == ("story-1", request.id, "policy:p")


async def test_duplicated_and_shuffled_events_have_one_effect(lab: Any) -> None:
    manager = await lab.manager()
    versions = [await lab.version(number, files=5) for number in range(1, 4)]
    lab.store.reads.clear()
    events = [requested(version, sequence=sequence) for version in versions for sequence in (1, 2, 3)]
    events.append(requested(versions[0], desired="absent", sequence=4))
    shuffled = events * 6
    random.Random(7).shuffle(shuffled)
    for event in shuffled:
        await deliver(manager, event)
        if random.Random(event.id).random() < 0.2:
            await lab.step(manager)
    await lab.until_state(manager, lab.key(versions[0]), "ABSENT")
    for version in versions[1:]:
        await lab.until_state(manager, lab.key(version), "READY")
    reads = lab.store.pack_reads()

    for event in shuffled:
        await deliver(manager, event)
    await lab.step(manager)

    assert lab.store.pack_reads() == reads
    assert set(reads.values()) == {1}
    assert await lab.client[lab.database]["inbox"].count_documents({}) == len(events)
    assert await lab.violations(manager) == []


async def test_prefetched_datasets_are_cached_on_commit(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    data = DatasetCommitted(
        dataset="digits",
        version=1,
        commit=version.commit,
        tree_root="0" * 64,
        manifest="0" * 64,
        parent=None,
        files=40,
        bytes=36_000,
    )
    event = build(
        data, source="/millrace/catalog", subject="digits", project="default", sequence=1, clock=SystemClock()
    )
    await deliver(manager, event)
    assert await manager.world.entries.get(lab.key(version).id) is None
    other = build(
        data, source="/millrace/catalog", subject="digits", project="default", sequence=1, clock=SystemClock()
    )
    await deliver(manager, other, (Prefetch(dataset="digits", site="nfs-a"),))
    await lab.until_state(manager, lab.key(version), "READY")


@pytest.mark.parametrize("whole", [False, True])
async def test_copies_of_what_was_removed_go(lab: Any, whole: bool) -> None:
    manager = await lab.manager()
    versions = [await lab.version(number, files=5) for number in (1, 2)]
    for version in versions:
        await deliver(manager, requested(version))
        await lab.until_state(manager, lab.key(version), "READY")
    first, second = versions
    data = DatasetRemoved(dataset="digits", version=None if whole else 1, commit=None if whole else first.commit)
    event = build(
        data, source="/millrace/catalog", subject="digits", project="default", sequence=3, clock=SystemClock()
    )
    for _ in range(3):
        await deliver(manager, event)
    await lab.until_state(manager, lab.key(first), "ABSENT")
    await lab.until_state(manager, lab.key(second), "ABSENT" if whole else "READY")
