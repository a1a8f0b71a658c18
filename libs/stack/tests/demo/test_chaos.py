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
    armed = {service: parse(points) for service, points in made.failpoints.items()}
    assert all(any(one.action == "kill" for one in points.values()) for points in armed.values())
    holds = [(name, it) for name, points in armed.items() for it, one in points.items() if one.action == "sleep"]
    assert holds == [(made.broker.service, made.broker.name)]
    killed = [name for names in made.free.values() for name in names]
    assert sorted(killed) == sorted(FREE)
    deaths = made.deaths()
    assert (deaths["nats"], deaths["triton"], deaths["ingest"], deaths["trainer"]) == (2, 1, 2, 4)


@given(st.integers(0, 10**6))
def test_five_moments_are_always_among_them(seed: int) -> None:
    armed = {name for points in plan(seed).failpoints.values() for name in parse(points)}
    wanted = {"commit.D8.before", "fill.C3.during", "train.T7.after", "train.T8.after", "deploy.P4.during"}
    assert wanted <= armed
