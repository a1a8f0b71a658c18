"""Exactly once: marks, panes and checkpoints under duplicates, disorder and crashes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_monitor.adapters import documents
from drift_monitor.adapters.png import PngPainter
from drift_monitor.application.tallying import Tallier
from drift_monitor.domain.checkpoint import MONTH_MICROSECONDS, Checkpoint
from drift_monitor.domain.exemplars import MAX_EXEMPLARS, Exemplar, Pools, candidates, margins
from drift_monitor.domain.marks import MAX_GAPS, MAX_PRODUCERS, Mark, Marks
from drift_monitor.domain.statistics import AlphaSpending
from drift_monitor.domain.window import Pane, Window

from . import builders

SIZE = 10

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=25)


@given(spans)
def test_a_mark_gives_every_row_out_once(batches: list[tuple[int, int]]) -> None:
    mark, given_out = Mark(), set()
    for start, rows in batches:
        mark, fresh = mark.claim(start, start + rows)
        claimed = [row for low, high in fresh for row in range(low, high)]
        assert claimed == sorted(set(range(start, start + rows)) - given_out)
        given_out |= set(claimed)
    missing = {row for low, high in mark.gaps for row in range(low, high)}
    assert set(range(mark.next)) - given_out == missing


def test_the_lowest_gap_is_given_up_beyond_the_limit() -> None:
    mark = Mark()
    for number in range(MAX_GAPS + 2):
        mark, _ = mark.claim(2 * number + 1, 2 * number + 2)
    assert len(mark.gaps) == MAX_GAPS
    assert mark.claim(0, 1)[1] == ()
    assert mark.claim(2 * MAX_GAPS, 2 * MAX_GAPS + 1)[1] != ()


def test_the_producer_that_was_silent_longest_is_forgotten() -> None:
    marks = Marks()
    for number in range(MAX_PRODUCERS):
        marks, _ = marks.claim(f"w/{number}", 0, 1)
    marks, _ = marks.claim("w/0", 1, 1)
    marks, _ = marks.claim("w/new", 0, 1)
    assert len(marks.producers) == MAX_PRODUCERS
    assert "w/0" in marks.producers
    assert "w/1" not in marks.producers


def pane(values: list[int], first: int) -> Pane:
    counts = {"f": np.bincount(np.array(values) % 5, minlength=5).astype(np.int64)}
    made = tuple(Exemplar(f"p{first + n}", f"{value:064d}", value / 100, 0) for n, value in enumerate(values))
    return Pane(len(values), counts, first, first + len(values), Pools(made, made).merged(Pools()))


def same(one: Pane, other: Pane) -> bool:
    def plain(pane: Pane) -> object:
        return replace(pane, counts={name: counts.tolist() for name, counts in pane.counts.items()})

    return plain(one) == plain(other)


panes = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=50), min_size=3, max_size=3)


@settings(deadline=None)
@given(panes)
def test_merging_panes_is_associative_and_commutative(parts: list[list[int]]) -> None:
    a, b, c = (pane(values, 1_000 * number) for number, values in enumerate(parts))
    assert same(a.merged(b).merged(c), a.merged(b.merged(c)))
    assert same(a.merged(b), b.merged(a))
    assert same(Pane().merged(a), a)
    assert len(a.merged(b).merged(c).pools.random) <= MAX_EXEMPLARS // 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=150, unique=True), st.randoms())
def test_only_rows_that_would_enter_the_pools_get_a_picture(values: list[int], rng: random.Random) -> None:
    made = [Exemplar(f"p{value}", "0", value / 100, 0) for value in values]
    whole = Pools(tuple(made), tuple(made)).merged(Pools())
    pools = Pools()
    rng.shuffle(made)
    for start in range(0, len(made), 40):
        part = made[start : start + 40]
        entering = candidates([one.prediction for one in part], np.array([one.margin for one in part]), pools)
        chosen = tuple(part[place] for place in entering)
        pools = pools.merged(Pools(chosen, chosen))
    assert pools == whole
    random_half, margin_half = pools.chosen()
    assert len({one.prediction for one in (*random_half, *margin_half)}) == len(random_half) + len(margin_half)


def tally(values: list[int], first: int):
    def count(rows: list[int], pools: Pools) -> Pane:
        made = pane([values[row] for row in rows], first + rows[0])
        exemplars = tuple(Exemplar(f"p{first + row}", "0", values[row] / 100, 0) for row in rows)
        return replace(made, pools=Pools(exemplars, exemplars).merged(Pools()))

    return count


def absorb(state: Checkpoint, batch: tuple[str, int, list[int]]) -> Checkpoint:
    producer, first, values = batch
    return state.absorb(1, producer, first, len(values), size=SIZE, tally=tally(values, first))


@st.composite
def deliveries(draw: st.DrawFn):
    """Batches of two producers, then a delivery order with repetitions and crashes."""
    batches = []
    for producer in ("w/a", "w/b"):
        first = 0
        for values in draw(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=25), max_size=5)):
            batches.append((producer, first, values))
            first += len(values)
    order = draw(st.permutations(range(len(batches))))
    again = draw(st.lists(st.sampled_from(range(len(batches))), max_size=8)) if batches else []
    crashes = draw(st.lists(st.booleans(), min_size=len(order) + len(again), max_size=len(order) + len(again)))
    return batches, [*order, *again], crashes


@settings(max_examples=150, deadline=None)
@given(deliveries())
def test_counts_are_not_changed_by_redelivery_disorder_or_crashes(case) -> None:
    """A crash before the store loses the state in memory, one after it leaves it: the batch comes again in both."""
    batches, order, crashes = case
    stored = Checkpoint("default", "d", 1)
    for index, crash in zip(order, crashes, strict=True):
        absorb(stored, batches[index])  # computed, then lost with the process
        stored = absorb(stored, batches[index])
        if crash:
            stored = absorb(reread(stored), batches[index])
    rows = sum(len(values) for _, _, values in batches)
    assert stored.counted == rows
    assert stored.pending_rows == rows
    assert len(stored.closing) == rows // SIZE
    assert all(window.pane.rows == SIZE for window in stored.closing)
    total = Pane()
    for window in (*stored.closing, *stored.open.values()):
        total = total.merged(window.pane)
    everything = [value for _, _, values in batches for value in values]
    expected = np.bincount(np.array(everything, dtype=int) % 5, minlength=5)
    assert total.counts.get("f", np.zeros(5)).tolist() == expected.tolist()
    numbers = sorted(window.number for window in (*stored.closing, *stored.open.values()))
    assert numbers == list(range(stored.next_window))


def reread(state: Checkpoint) -> Checkpoint:
    document = {**documents.checkpoint_document(state), "revision": state.revision}
    return documents.checkpoint_entity(document)


def test_a_checkpoint_survives_its_document() -> None:
    state = absorb(Checkpoint("default", "d", 3), ("w/a", 5, list(range(37))))
    again = reread(state)
    assert documents.checkpoint_document(again) == documents.checkpoint_document(state)
    assert again.marks == state.marks


def test_a_tallied_batch_has_counts_pictures_and_times() -> None:
    rng = np.random.default_rng(0)
    base, inputs = builders.a_baseline(rng), builders.images(rng, 120)
    made = builders.batch(inputs, first=40)
    counted = Tallier(made, base, painter=PngPainter())(list(range(120)), Pools())
    assert all(counts.sum() == 120 for counts in counted.counts.values())
    assert set(counted.counts) == {feature.name for feature in base.features}
    assert counted.last_at - counted.first_at == 119
    random_half, margin_half = counted.pools.chosen()
    assert len(random_half) == len(margin_half) == 32
    lows = sorted(margins(made.outputs))
    assert [one.margin for one in counted.pools.margin] == pytest.approx(lows[:64])


def test_windows_of_two_revisions_fill_side_by_side() -> None:
    state = Checkpoint("default", "d", 1)
    for revision in (1, 2):
        state = state.absorb(revision, f"w/{revision}", 0, 7, size=SIZE, tally=tally([1] * 7, 0))
    assert {revision: window.pane.rows for revision, window in state.open.items()} == {1: 7, 2: 7}
    state = state.retire(1)
    assert [window.pane.rows for window in state.closing] == [7]
    assert list(state.open) == [2]


def test_an_allowance_is_granted_once_a_month_and_never_for_the_past() -> None:
    spending = AlphaSpending(1.0, 100)
    state = Checkpoint("default", "d", 1)

    def at(when: int) -> Window:
        return Window(0, 1, Pane(10, last_at=when))

    first, state = state.alpha(at(5 * MONTH_MICROSECONDS), spending)
    second, state = state.alpha(at(5 * MONTH_MICROSECONDS + 9), spending)
    late, state = state.alpha(at(4 * MONTH_MICROSECONDS), spending)
    assert first > second > late
    assert state.spent == pytest.approx(first + second + late)
    fresh, state = state.alpha(at(6 * MONTH_MICROSECONDS), spending)
    assert fresh == first
    assert state.spent == fresh
