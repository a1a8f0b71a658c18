"""The life of a job under every sequence of moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trainer.application.fsck import check
from trainer.domain import jobs
from trainer.domain.devices import Device, Node, Slot
from trainer.domain.jobs import Artifact, CacheLease, Checkpoint, Grant, Job, Process, State
from trainer.errors import IllegalMove

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = CacheLease("l", "/p")
ARTIFACT = Artifact("d" * 64, "p", ({"path": "x"},), "keras", {}, {})


def a_job(**changes: object) -> Job:
    values: dict[str, object] = {
        "run": "r",
        "project": "default",
        "dataset": "digits",
        "version": 1,
        "commit": "c" * 64,
        "site": "nfs-a",
        "component": "classifier",
        "reason": "waits",
    }
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def running(**changes: object) -> Job:
    job = jobs.leased(a_job(**changes), LEASE)
    job = jobs.granted(job, Grant("n", 1, ("cpu:0",), 7))
    return jobs.started(job, Process(1, "2"), NOW)


def test_a_fence_only_rises() -> None:
    job = jobs.interrupted(running(), "x", NOW, most=3)
    with pytest.raises(IllegalMove):
        jobs.granted(job, Grant("n", 1, ("cpu:0",), 7))
    assert jobs.granted(job, Grant("n", 1, ("cpu:0",), 8)).fence == 8


def test_failures_end_and_interruptions_do_not_count_as_failures() -> None:
    job = jobs.interrupted(running(), "restart", NOW, most=3)
    assert (job.state, job.failures, job.interruptions) == (State.READY, 0, 1)
    job = running()
    again = jobs.broke(job, "boom", 1, NOW, attempts=2, final=False)
    assert (again.state, again.failures) == (State.READY, 1)
    ended = jobs.broke(replace(job, failures=1), "boom", 1, NOW, attempts=2, final=False)
    assert (ended.state, ended.exit_code) == (State.FAILED, 1)
    assert jobs.broke(job, "unusable", 65, NOW, attempts=9, final=True).state is State.FAILED


def test_a_run_that_lost_its_cache_lease_waits_for_another() -> None:
    job = jobs.interrupted(jobs.unleased(running(), "gone"), "restart", NOW, most=3)
    assert job.state is State.WAITING


def test_too_many_interruptions_are_a_failure() -> None:
    assert jobs.interrupted(running(interruptions=3), "again", NOW, most=3).state is State.FAILED


def test_a_cancelled_run_stays_so_whatever_its_process_did() -> None:
    job = jobs.cancel(running(), NOW)
    assert (job.state, job.cancelling) == (State.RUNNING, True)
    assert jobs.cancel(job, NOW) is job
    assert jobs.broke(job, "x", 1, NOW, attempts=3, final=False).state is State.CANCELLED
    assert jobs.interrupted(job, "x", NOW, most=3).state is State.CANCELLED


def test_a_model_is_registered_before_the_run_is_complete() -> None:
    job = jobs.produced(running(model="m"), ARTIFACT, {"accuracy": 1.0}, NOW)
    assert (job.state, job.grant) == (State.REGISTERING, None)
    done = jobs.registered(job, 4, NOW)
    assert (done.state, done.model_version) == (State.COMPLETED, 4)
    assert jobs.produced(running(), None, {}, NOW).state is State.COMPLETED


class Life(RuleBasedStateMachine):
    """Any move may be tried at any time: it works, or is refused and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.job = a_job(model="m")
        self.fence = 0
        self.history = [self.job]

    def attempt(self, move: object, *args: object, **more: object) -> None:
        try:
            moved = move(self.job, *args, **more)  # type: ignore[operator]
        except IllegalMove:
            return
        if moved is not self.job:
            self.job = moved
            self.history.append(moved)

    @rule()
    def lease(self) -> None:
        self.attempt(jobs.leased, LEASE)

    @rule()
    def lose_lease(self) -> None:
        self.attempt(jobs.unleased, "gone")

    @rule(step=st.integers(0, 2))
    def grant(self, step: int) -> None:
        self.fence += step
        self.attempt(jobs.granted, Grant("n", 1, ("cpu:0",), self.fence))

    @rule()
    def start(self) -> None:
        self.attempt(jobs.started, Process(1, "2"), NOW)

    @rule(epoch=st.integers(1, 9))
    def checkpoint(self, epoch: int) -> None:
        self.attempt(jobs.checkpointed, Checkpoint(epoch, self.fence, "k", "d" * 64))

    @rule()
    def interrupt(self) -> None:
        self.attempt(jobs.interrupted, "restart", NOW, most=2)

    @rule(final=st.booleans())
    def fail(self, final: bool) -> None:
        self.attempt(jobs.broke, "boom", 1, NOW, attempts=2, final=final)

    @rule(model=st.booleans())
    def produce(self, model: bool) -> None:
        self.attempt(jobs.produced, ARTIFACT if model else None, {}, NOW)

    @rule()
    def register(self) -> None:
        self.attempt(jobs.registered, 1, NOW)

    @rule()
    def refuse(self) -> None:
        self.attempt(jobs.refused, "no", NOW)

    @rule()
    def cancel(self) -> None:
        self.attempt(jobs.cancel, NOW)

    @rule()
    def release(self) -> None:
        self.attempt(jobs.released)

    @invariant()
    def consistent(self) -> None:
        job = self.job
        device = Device("cpu:0", "cpu")
        slot = Slot(device, job.run, job.grant.fence) if job.grant else Slot(device)
        checkpoints: dict[str, str | None] = {"k": "d" * 64}
        assert check([job], [Node("n", 1, (slot,))], max(self.fence, job.fence), checkpoints) == []

    @invariant()
    def history_is_sound(self) -> None:
        for before, after in zip(self.history, self.history[1:], strict=False):
            assert after.revision == before.revision + 1
            assert after.fence >= before.fence
            assert not before.over or after.state is before.state
            assert after.attempt - before.attempt in (0, 1)


TestLife = Life.TestCase
