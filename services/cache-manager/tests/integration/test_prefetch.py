"""Prefetch rules: by commit, by a run that is requested, by schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cache_manager.application.prefetching import PrefetchRules, run_schedules
from cache_manager.domain.prefetch import Prefetch
from cache_manager.entrypoints.bus import subscriptions
from cache_manager.errors import RuleNotFound, SiteNotFound
from millrace.clock import SystemClock, new_id
from millrace.events import DatasetCommitted, EventData, TrainingRequested, build

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "due"),
    [
        (Prefetch("p", "r", "schedule", "d", "s", every=60, created_at=NOON), True),
        (Prefetch("p", "r", "schedule", "d", "s", every=60, last=NOON - timedelta(seconds=59)), False),
        (Prefetch("p", "r", "schedule", "d", "s", every=60, last=NOON - timedelta(seconds=60)), True),
        (Prefetch("p", "r", "schedule", "d", "s", at="11:59", created_at=NOON), False),
        (Prefetch("p", "r", "schedule", "d", "s", at="11:59", last=NOON - timedelta(hours=1)), True),
        (Prefetch("p", "r", "schedule", "d", "s", at="12:01", last=NOON - timedelta(hours=1)), False),
        (Prefetch("p", "r", "schedule", "d", "s", at="12:01", last=NOON - timedelta(hours=25)), True),
        (Prefetch("p", "r", "commit", "d", "s", created_at=NOON - timedelta(days=9)), False),
    ],
)
def test_when_a_schedule_is_due(rule: Prefetch, due: bool) -> None:
    assert rule.due(NOON) is due


async def deliver(manager: Any, data: EventData) -> None:
    event = build(data, source="/millrace/catalog", subject="s", project="default", sequence=1, clock=SystemClock())
    for subscription in subscriptions(manager.world.clock, lambda: None, ()):
        if subscription.wants(event):

            async def work(uow: Any, handler: Any = subscription.handler) -> None:
                await handler(event, uow)

            await manager.transactor(work, inbox=(subscription.durable, event.key))


def requested(version: Any) -> TrainingRequested:
    return TrainingRequested(
        run=str(new_id()), dataset="digits", version=1, commit=version.commit, site="nfs-a", component="noop"
    )


def committed(version: Any) -> DatasetCommitted:
    return DatasetCommitted(
        dataset="digits",
        version=1,
        commit=version.commit,
        tree_root="0" * 64,
        manifest="0" * 64,
        parent=None,
        files=40,
        bytes=36_000,
    )


@pytest.mark.servers
@pytest.mark.parametrize("dataset", ["digits", None])
async def test_a_rule_brings_what_a_run_or_a_commit_needs(lab: Any, manager: Any, dataset: str | None) -> None:
    version, rules = await lab.version(), PrefetchRules(manager.world)
    await rules.put(Prefetch("default", "other", "run", "cats"), "anna")
    await rules.put(Prefetch("other", "theirs", "commit", "digits", "nfs-a"), "anna")
    for fact in (requested(version), committed(version)):
        await deliver(manager, fact)
        assert await manager.world.entries.get(lab.key(version).id) is None
    await rules.put(Prefetch("default", "runs", "run", dataset), "anna")
    await deliver(manager, requested(version))
    await lab.until_state(manager, lab.key(version), "READY")
    await deliver(manager, requested(version))
    assert await lab.event_types() == ["cache.ready"]

    await lab.ask(manager, version, desired="absent")
    await lab.until_state(manager, lab.key(version), "ABSENT")
    await rules.put(Prefetch("default", "commits", "commit", dataset, "nfs-a"), "anna")
    await deliver(manager, committed(version))
    assert (await manager.world.entries.get(lab.key(version).id)).desired == "present"


@pytest.mark.servers
async def test_a_schedule_brings_the_newest_version_once(lab: Any, manager: Any) -> None:
    version, rules = await lab.version(), PrefetchRules(manager.world)
    lab.catalog.versions["default", "digits", "latest"] = version
    await rules.put(Prefetch("default", "often", "schedule", "digits", "nfs-a", every=3_600), "anna")
    await rules.put(Prefetch("default", "broken", "schedule", "cats", "nfs-a", every=3_600), "anna")
    await run_schedules(manager.world)
    await lab.until_state(manager, lab.key(version), "READY")
    await lab.ask(manager, version, desired="absent")
    await run_schedules(manager.world)
    assert (await manager.world.entries.get(lab.key(version).id)).desired == "absent"
    shown = {rule["name"]: rule for rule in await rules.list_rules("default")}
    assert [rule["last"] is not None for rule in shown.values()] == [True, True]
    assert (shown["often"]["problem"], shown["broken"]["problem"]) == ("", "no version latest of cats")
    await rules.remove("default", "often", "anna")
    with pytest.raises(RuleNotFound):
        await rules.remove("default", "often", "anna")


@pytest.mark.servers
async def test_a_site_that_takes_nothing_is_passed_over(lab: Any, manager: Any) -> None:
    version, rules = await lab.version(), PrefetchRules(manager.world)
    lab.catalog.versions["default", "digits", "latest"] = version
    with pytest.raises(SiteNotFound):
        await rules.put(Prefetch("default", "lost", "commit", "digits", "nowhere"), "anna")
    await rules.put(Prefetch("default", "runs", "run"), "anna")
    await rules.put(Prefetch("default", "commits", "commit", None, "nfs-a"), "anna")
    await rules.put(Prefetch("default", "often", "schedule", "digits", "nfs-a", every=3_600), "anna")
    await manager.world.sites.change("nfs-a", draining=True)
    for fact in (requested(version), committed(version)):
        await deliver(manager, fact)
    await run_schedules(manager.world)
    assert await manager.world.entries.get(lab.key(version).id) is None
    [often] = [rule for rule in await rules.list_rules("default") if rule["name"] == "often"]
    assert (often["last"], often["problem"]) == (None, "site nfs-a is being drained")

    await manager.world.sites.change("nfs-a", draining=False)
    await run_schedules(manager.world)
    await lab.until_state(manager, lab.key(version), "READY")
    assert [rule["problem"] for rule in await rules.list_rules("default")] == ["", "", ""]


@pytest.mark.servers
async def test_a_commit_that_is_heard_again_says_nothing_new(lab: Any, manager: Any) -> None:
    version = await lab.version()
    await PrefetchRules(manager.world).put(Prefetch("default", "commits", "commit", None, "nfs-a"), "anna")
    await deliver(manager, committed(version))
    await lab.until_state(manager, lab.key(version), "READY")
    await deliver(manager, committed(version))
    assert await lab.event_types() == ["cache.ready"]
