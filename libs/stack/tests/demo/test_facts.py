"""The demo does not call itself good when it was not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from millrace.errors import Conflict, Unavailable
from millrace_stack.demo.facts import Facts, Round
from millrace_stack.demo.waiting import StepFailed, until

FIRST = Round(clean_accuracy=0.98, shifted_accuracy=0.1)
SECOND = Round(clean_accuracy=0.97, shifted_accuracy=0.8)


def good(**changes: object) -> Facts:
    facts = Facts(
        rounds=[FIRST, SECOND], clean_windows=12, clean_alerts=0, windows_to_detection=1, labels=150, fsck="clean"
    )
    for name, value in changes.items():
        setattr(facts, name, value)
    return facts


def test_a_good_run_falls_short_of_nothing() -> None:
    assert good().shortfalls() == []


@pytest.mark.parametrize(
    "facts",
    [
        good(clean_alerts=1),
        good(clean_windows=9),
        good(windows_to_detection=3),
        good(windows_to_detection=0),
        good(labels=151),
        good(labels=0),
        good(fsck=""),
        good(rounds=[replace(FIRST, clean_accuracy=0.96), SECOND]),
        good(rounds=[FIRST, replace(SECOND, clean_accuracy=0.95)]),
        good(rounds=[FIRST, replace(SECOND, shifted_accuracy=0.74)]),
        good(rounds=[replace(FIRST, shifted_accuracy=0.4), SECOND]),
    ],
)
def test_each_promise_that_is_broken_is_named(facts: Facts) -> None:
    assert len(facts.shortfalls()) == 1


def test_waiting_takes_a_passing_error_for_not_yet_and_gives_up_with_what_waits() -> None:
    answers: Iterator[Exception | str | None] = iter([Unavailable("away"), None, "there"])

    def look() -> str | None:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert until("it", look, seconds=5) == "there"
    with pytest.raises(StepFailed, match=r"it: not within 0\.01 s \(the queue is long\)"):
        until("it", lambda: None, seconds=0.01, now=lambda: "the queue is long")

    def conflict() -> str:
        raise Conflict("taken")

    with pytest.raises(Conflict):
        until("it", conflict, seconds=5)
