"""Policies: what they may say, and that each event is dealt with once."""

from __future__ import annotations

import asyncio

import pytest

from catalog.application.caller import Caller
from catalog.application.policies.edit import delete_policy, put_policy
from catalog.application.policies.execute import execute_policies
from catalog.application.projections.receive import log_row, receive
from catalog.application.waiting import waiting
from catalog.domain.models import ModelVersion, PackageFile
from catalog.entrypoints.policy_text import read_policy
from catalog.testing import MemoryDocuments
from millrace.errors import Invalid
from millrace.events import (
    CacheReady,
    DeploymentReady,
    ModelRegistered,
    TrainingCompleted,
    TrainingQueued,
    TrainingStarted,
    build,
)

ANNA = Caller(principal="anna", project="default")

ON_COMMIT = b"""
on: dataset.committed
where: {dataset: digits}
do:
  - cache: {site: nfs-a}
  - train: {component: classifier, model: digits, site: nfs-a, params: {epochs: 20, "a.b": 1}}
"""
ON_MODEL = b"""
on: model.registered
where: {model: digits}
unless_worse_than_deployed: {deployment: digits, metric: accuracy, tolerance: 0.02}
do:
  - deploy: {deployment: digits}
"""


def test_yaml_and_json_say_the_same() -> None:
    document = read_policy(ON_COMMIT)
    assert document.on == "dataset.committed"
    assert document.where == {"dataset": "digits"}
    assert [action.kinds[0] for action in document.do] == ["cache", "train"]
    as_json = b'{"on": "dataset.committed", "do": [{"cache": {"site": "nfs-a"}}], "where": {"dataset": "no"}}'
    assert read_policy(as_json).where == {"dataset": "no"}
    assert read_policy(b"on: dataset.committed\nwhere: {dataset: no}\ndo: [{cache: {site: on}}]").where == {
        "dataset": "no"
    }


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"on: dataset.committed",
        b"on: dataset.committed\ndo: []",
        b"on: nothing.happened\ndo: [{cache: {site: nfs-a}}]",
        b"on: model.registered\ndo: [{cache: {site: nfs-a}}]",
        b"on: dataset.committed\ndo: [{deploy: {deployment: d}}]",
        b"on: dataset.committed\ndo: [{cache: {site: nfs-a}, deploy: {deployment: d}}]",
        b"on: dataset.committed\ndo: [{cache: {site: ../etc}}]",
        b"on: dataset.committed\nwhere: {$where: x}\ndo: [{cache: {site: nfs-a}}]",
        b"on: dataset.committed\nwhere: {dataset: {$gt: 1}}\ndo: [{cache: {site: nfs-a}}]",
        b"on: dataset.committed\non: model.registered\ndo: [{cache: {site: nfs-a}}]",
        b"a: &a [x]\nb: *a",
        b"on: dataset.committed\ndo: [{cache: {site: nfs-a}}]\nsurprise: 1",
        b"!!python/object/apply:os.system [id]",
        b"\xff\xfe",
        b"on: dataset.committed\ndo: [{train: {component: c, site: s, params: {x: .nan}}}]",
        b"{" * 5_000,
        b"x" * 70_000,
        b"? [a]\n: b",
    ],
)
def test_a_policy_that_cannot_work_is_refused_when_it_is_written(text: bytes) -> None:
    with pytest.raises(Invalid):
        read_policy(text)


async def _with_policies(world) -> None:
    await world.dataset()
    await world.run(put_policy, "on-commit", read_policy(ON_COMMIT), ANNA, clock=world.clock)
    await world.run(put_policy, "on-model", read_policy(ON_MODEL), ANNA, clock=world.clock)


async def test_a_commit_asks_for_cache_and_training_with_one_correlation(world) -> None:
    await _with_policies(world)
    await world.commit(await world.push(a=b"one"))
    assert await world.policies() == 1
    (committed,) = world.events("dataset.committed")
    (cache,) = world.events("cache.requested")
    (training,) = world.events("training.requested")
    assert {cache.correlationid, training.correlationid} == {committed.correlationid}
    assert {cache.causationid, training.causationid} == {committed.id}
    assert training.data.params == {"epochs": 20, "a.b": 1}
    run = await world.documents.runs.get(training.data.run)
    assert (run.state, run.commit, run.cause) == ("requested", committed.data.commit, committed.id)
    assert run.reason


async def test_an_event_is_dealt_with_once_by_handler_and_reconciler_together(world) -> None:
    await _with_policies(world)
    await world.commit(await world.push(a=b"one"))
    (event,) = world.events("dataset.committed")
    row = await world.documents.log.get(event.id)
    await asyncio.gather(
        *(world.run(receive, event, clock=world.clock) for _ in range(5)),
        *(world.run(execute_policies, row, clock=world.clock) for _ in range(5)),
    )
    assert len(world.events("training.requested")) == 1
    assert len(world.events("cache.requested")) == 1
    assert await world.documents.executions.count({}) == 1


async def test_a_policy_does_not_act_on_what_was_before_it(world) -> None:
    await world.dataset()
    await world.commit(await world.push(a=b"one"))
    await world.policies()
    await world.run(put_policy, "on-commit", read_policy(ON_COMMIT), ANNA, clock=world.clock)
    assert await world.policies() == 0
    assert not world.events("training.requested")


async def test_other_datasets_and_removed_policies_are_left_alone(world) -> None:
    await _with_policies(world)
    await world.dataset("other")
    await world.commit(await world.push(a=b"one"), name="other")
    await world.policies()
    await world.run(delete_policy, "on-commit", ANNA)
    await world.commit(await world.push(a=b"one"))
    await world.policies()
    assert not world.events("training.requested")


async def test_training_alone_has_its_version_brought_near(world) -> None:
    await world.dataset()
    text = b"on: dataset.committed\ndo: [{train: {component: classifier, site: nfs-b}}]"
    await world.run(put_policy, "train", read_policy(text), ANNA, clock=world.clock)
    await world.commit(await world.push(a=b"one"))
    await world.policies()
    (cache,) = world.events("cache.requested")
    assert cache.data.site == "nfs-b"


async def test_requests_move_on_with_what_they_asked_for(world) -> None:
    await _with_policies(world)
    committed = (await world.commit(await world.push(a=b"one"))).body
    await world.policies()
    (training,) = world.events("training.requested")
    run = training.data.run

    async def hear(data, subject: str, sequence: int, source: str = "/millrace/trainer") -> None:
        event = build(
            data,
            source=source,
            subject=subject,
            project="default",
            sequence=sequence,
            clock=world.clock,
            cause=training,
        )
        await world.run(receive, event, clock=world.clock)

    await hear(TrainingQueued(run=run, reason="waiting for cache of digits@1 at nfs-a"), run, 2)
    items = await waiting("default", documents=world.documents)
    assert {item["kind"] for item in items} == {"run", "cache"}
    assert all(item["reason"] and item["unblock"] for item in items)
    entry = {"entry": "e", "site": "nfs-a", "dataset": "digits", "version": 1, "commit": committed["commit"]}
    ready = CacheReady(
        **entry, path="/p", files=1, bytes=3, fetched_bytes=3, tree_root=committed["tree_root"], token=1, seconds=0.1
    )
    await hear(ready, "e", 1, "/millrace/cache-manager")
    started = TrainingStarted(
        run=run, attempt=1, node="n", device="cpu:0", fence=1, commit=committed["commit"], site="nfs-a", path="/p",
        cache_hit=True, lease="l",
    )  # fmt: skip
    await hear(started, run, 3)
    await hear(TrainingCompleted(run=run, fence=1, metrics={"accuracy": 0.98}, seconds=2.0), run, 4)
    execution = (await world.documents.executions.find({"policy": "on-commit"}))[0]
    assert {request.kind: request.state for request in execution.requests} == {"cache": "done", "train": "done"}
    assert await waiting("default", documents=world.documents) == []


async def _register(world, version: int, accuracy: float) -> None:
    documents: MemoryDocuments = world.documents
    item = ModelVersion(
        id=f"default/digits/{version}",
        project="default",
        model="digits",
        version=version,
        run="0" * 8 + "-0000-0000-0000-" + f"{version:012x}",
        digest=f"{version:064x}",
        prefix=f"default/models/{version:064x}",
        uri="",
        files=(PackageFile("model.keras", "0" * 64, 1),),
        framework="keras",
        metrics={"accuracy": accuracy},
        dataset="digits",
        dataset_version=1,
        commit="1" * 64,
        created_by="trainer",
        created_at=world.clock.now(),
    )
    await documents.model_versions.add(item)
    data = ModelRegistered(
        model="digits", version=version, digest=item.digest, prefix=item.prefix, run=item.run, dataset="digits",
        dataset_version=1, commit=item.commit, framework="keras", metrics=item.metrics,
    )  # fmt: skip
    event = build(
        data, source="/millrace/catalog", subject="digits", project="default", sequence=version, clock=world.clock
    )
    await documents.log.add(log_row(event, delivered=False))


async def test_a_model_is_deployed_unless_it_is_worse_than_the_deployed_one(world) -> None:
    await _with_policies(world)
    await _register(world, 1, 0.97)
    await world.policies()
    (first,) = world.events("deployment.requested")
    assert (first.data.revision, first.data.version, first.data.digest) == (1, 1, f"{1:064x}")
    ready = DeploymentReady(
        deployment="digits", revision=1, model="digits", version=1, digest=first.data.digest, dataset="digits",
        commit="1" * 64, backend_model="digits.v1", route_epoch=1, golden_error=0.0, seconds=1.0,
    )  # fmt: skip
    event = build(
        ready,
        source="/millrace/serving",
        subject="digits",
        project="default",
        sequence=1,
        clock=world.clock,
        cause=first,
    )
    await world.run(receive, event, clock=world.clock)
    await _register(world, 2, 0.90)
    await world.policies()
    assert len(world.events("deployment.requested")) == 1
    execution = (await world.documents.executions.find({"policy": "on-model"}, descending=True))[0]
    states = {
        request.state for it in await world.documents.executions.find({"policy": "on-model"}) for request in it.requests
    }
    assert states == {"done", "skipped"}
    assert "accuracy" in execution.requests[0].reason
    await _register(world, 3, 0.955)
    await world.policies()
    assert [event.data.version for event in world.events("deployment.requested")] == [1, 3]
    deployment = await world.documents.deployments.get("default/digits")
    assert (deployment.desired.revision, deployment.desired.version, deployment.observed.serving_version) == (2, 3, 1)
