"""A chaos plan is repeatable, and kills everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millrace.failpoints import parse
from millrace_stack.demo.chaos import FREE, plan

SERVICES = {"catalog", "ingest", "cache-manager", "trainer", "serving", "drift-monitor"}


@given(st.integers(0, 10**6))
def test_every_service_dies_at_a_known_failpoint_and_everybody_once_more(seed: int) -> None:
    made = plan(seed)
    assert made == plan(seed)
    assert set(made.failpoints) == SERVICES
    for points in made.failpoints.values():
        assert all(armed.action == "kill" for armed in parse(points).values())
    killed = [name for names in made.free.values() for name in names]
    assert sorted(killed) == sorted(FREE)


@given(st.integers(0, 10**6))
def test_five_moments_are_always_among_them(seed: int) -> None:
    armed = {name for points in plan(seed).failpoints.values() for name in parse(points)}
    wanted = {"commit.D8.before", "fill.C3.during", "train.T7.after", "train.T8.after", "deploy.P4.during"}
    assert wanted <= armed
