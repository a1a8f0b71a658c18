"""Rules without any server: heads, references, the run's state machine, curves, conditions."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.datasets import Dataset, parse_reference
from catalog.domain.deployments import Deployment, Desired, Observed
from catalog.domain.metrics import Point, downsample
from catalog.domain.operations import combined
from catalog.domain.policies import matches, not_worse
from catalog.domain.runs import TERMINAL, Dropped, Fact, Run, Stage, observe
from catalog.errors import HeadMoved
from millrace.errors import Fenced, Invalid

NOW = datetime(2026, 11, 25, tzinfo=UTC)
KINDS = ("queued", "started", "checkpointed", "preempted", "completed", "failed", "cancelled")


def a_run(**changes: object) -> Run:
    base = {
        "id": "r",
        "project": "default",
        "dataset": "digits",
        "version": 1,
        "commit": "c",
        "site": "nfs-a",
        "component": "classifier",
        "created_by": "anna",
        "created_at": NOW,
    }
    return Run(**{**base, **changes})  # type: ignore[arg-type]


def test_a_head_moves_only_from_the_parent_it_was_read_at() -> None:
    dataset = Dataset(id="d", project="default", name="digits", created_by="anna", created_at=NOW)
    first = dataset.advance(parent=None, commit="one", tree_root="r1")
    assert first.head is not None
    assert first.head.version == 1
    with pytest.raises(HeadMoved):
        first.advance(parent=None, commit="two", tree_root="r2")
    second = first.advance(parent="one", commit="two", tree_root="r2")
    assert second.head is not None
    assert (second.head.version, second.head.commit) == (2, "two")


def test_references_are_numbers_commits_or_latest() -> None:
    assert parse_reference("7").number == 7
    assert parse_reference("12345678").prefix == "12345678"
    assert parse_reference("abcdef01").prefix == "abcdef01"
    assert parse_reference("latest") == parse_reference("latest")
    for bad in ("0", "abc", "ABCDEF01", "../x", "", "-1", "g" * 10, "a" * 65):
        with pytest.raises(Invalid):
            parse_reference(bad)


facts = st.builds(
    Fact,
    kind=st.sampled_from(KINDS),
    sequence=st.integers(0, 20),
    at=st.just(NOW),
    fence=st.integers(0, 5),
    reason=st.text(max_size=10),
)


@given(st.lists(facts, max_size=30))
def test_the_state_machine_is_total_terminal_states_never_change_and_fences_only_rise(given_facts: list[Fact]) -> None:
    run = a_run()
    for fact in given_facts:
        before = run
        seen = observe(run, fact)
        run = before if isinstance(seen, Dropped) else seen
        assert run.fence >= before.fence
        assert run.sequence >= before.sequence
        if before.state in TERMINAL:
            assert run == before


@given(st.permutations(list(enumerate(("queued", "started", "checkpointed", "completed"), start=2))))
def test_the_end_is_the_same_in_whatever_order_the_reports_come(order: list[tuple[int, str]]) -> None:
    run = a_run()
    for sequence, kind in itertools.chain(order, order):
        seen = observe(run, Fact(kind=kind, sequence=sequence, at=NOW, fence=1))  # type: ignore[arg-type]
        run = run if isinstance(seen, Dropped) else seen
    assert run.state == "completed"


def test_a_writer_that_lost_its_grant_is_refused() -> None:
    run = a_run(fence=3)
    assert run.under(4).fence == 4
    assert run.under(3) is run
    with pytest.raises(Fenced):
        run.under(2)


def test_latest_is_the_value_of_the_newest_step() -> None:
    run = a_run().measured([("loss", 2, 0.5), ("loss", 1, 0.9), ("accuracy", 1, 0.7)])
    assert run.latest == {"loss": 0.5, "accuracy": 0.7}
    assert run.latest_steps == {"loss": 2, "accuracy": 1}


def test_stages_are_kept_once_and_in_order() -> None:
    late, early = Stage(300, "evaluation", NOW + timedelta(seconds=1)), Stage(200, "training", NOW)
    assert a_run().staged((late, early)).staged((late,)).stages == (early, late)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=400), st.integers(4, 100))
def test_downsampling_keeps_the_ends_the_order_and_the_limit(values: list[float], limit: int) -> None:
    points = [Point("loss", step, value, NOW) for step, value in enumerate(values)]
    small = downsample(points, limit)
    assert len(small) <= limit
    assert [point.step for point in small] == sorted({point.step for point in small})
    if points:
        assert (small[0], small[-1]) == (points[0], points[-1])


def test_downsampling_keeps_the_peak() -> None:
    points = [Point("loss", step, 9.0 if step == 517 else math.sin(step), NOW) for step in range(1_000)]
    assert 9.0 in [point.value for point in downsample(points, 20)]


def test_where_compares_values_and_nothing_else() -> None:
    data = {"dataset": "digits", "lineage": {"queue": "q-1"}, "version": 1, "enabled": True}
    assert matches({}, data)
    assert matches({"dataset": "digits", "lineage.queue": "q-1"}, data)
    assert not matches({"dataset": "other"}, data)
    assert not matches({"lineage.missing": None}, data)
    assert not matches({"dataset.deeper": "digits"}, data)


@pytest.mark.parametrize(
    ("candidate", "deployed", "passes"),
    [(0.98, 0.97, True), (0.951, 0.97, True), (0.94, 0.97, False), (None, 0.97, False), (0.5, None, True)],
)
def test_a_model_may_be_worse_by_the_tolerance_and_no_more(
    candidate: float | None, deployed: float | None, passes: bool
) -> None:
    assert not_worse("accuracy", candidate, deployed, 0.02).passes is passes


def wish(revision: int, presence: str = "present") -> Desired:
    return Desired(
        revision=revision,
        presence=presence,  # type: ignore[arg-type]
        model="digits",
        version=revision,
        digest="d",
        prefix="p",
        dataset="digits",
        commit="c",
        reference=None,
        reason="",
        by="anna",
        at=NOW,
    )


def test_reports_of_older_revisions_change_nothing() -> None:
    deployment = Deployment(id="d", project="default", name="digits", desired=wish(1), created_at=NOW)
    ready = deployment.observing(Observed(state="ready", revision=1, sequence=1, serving=1))
    assert ready is not None
    assert ready.settled
    wanting = ready.wanting(wish(2))
    assert not wanting.settled
    assert wanting.observing(Observed(state="retired", revision=1, sequence=9)) is None
    second = wanting.observing(Observed(state="ready", revision=2, sequence=2, serving=2))
    assert second is not None
    assert second.observing(Observed(state="failed", revision=1, sequence=10)) is None
    retiring = second.wanting(wish(3, "absent"))
    gone = retiring.observing(Observed(state="retired", revision=2, sequence=3))
    assert gone is not None
    assert gone.settled


def test_a_batch_has_ended_when_all_of_it_has() -> None:
    assert combined(["accepted", "accepted"]) == "accepted"
    assert combined(["completed", "accepted"]) == "running"
    assert combined(["completed", "failed"]) == "failed"
    assert combined(["completed", "completed"]) == "completed"
