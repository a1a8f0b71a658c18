"""Fsck finds what must not be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from trainer.application.fsck import check
from trainer.domain.devices import Device, Node, Slot
from trainer.domain.jobs import Checkpoint, Grant, Job, State

DEVICE = Device("cpu:0", "cpu")
JOB = Job(
    run="r",
    project="default",
    dataset="d",
    version=1,
    commit="c" * 64,
    site="s",
    component="noop",
    state=State.GRANTED,
    fence=3,
    grant=Grant("n", 1, ("cpu:0",), 3),
)
NODE = Node("n", 1, (Slot(DEVICE, "r", 3),))


def found(
    jobs: list[Job], node: Node = NODE, last: int = 9, checkpoints: dict[str, str | None] | None = None
) -> set[str]:
    return {violation.invariant for violation in check(jobs, [node], last, checkpoints or {})}


def test_what_is_right_is_clean() -> None:
    assert found([JOB]) == set()


def test_a_device_with_two_live_jobs_is_found() -> None:
    other = replace(JOB, run="q", fence=4, grant=Grant("n", 1, ("cpu:0",), 4))
    assert "I6" in found([JOB, other])


def test_a_claim_that_only_one_side_knows_is_found() -> None:
    assert found([JOB], Node("n", 1, (Slot(DEVICE),))) == {"I6"}
    assert found([], NODE) == {"I6"}


def test_fences_drawn_twice_or_never_are_found() -> None:
    ended = replace(JOB, run="q", state=State.FAILED, grant=None, ended_at=datetime.now(UTC))
    assert found([JOB, ended]) == {"I6"}
    assert found([JOB], last=2) == {"I6"}


def test_states_that_contradict_themselves_are_found() -> None:
    assert found([replace(JOB, state=State.WAITING, fence=3)]) >= {"I9"}
    assert found([replace(JOB, grant=None)], Node("n", 1, (Slot(DEVICE),))) == {"I9"}


def test_a_lost_checkpoint_is_found() -> None:
    job = replace(JOB, checkpoint=Checkpoint(1, 3, "k", "d" * 64))
    assert found([job], checkpoints={"k": None}) == {"I9"}
    assert found([job], checkpoints={"k": "e" * 64}) == {"I9"}
    assert found([job], checkpoints={"k": "d" * 64}) == set()
