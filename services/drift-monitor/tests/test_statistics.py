"""The tests on counts: exact where they say so, calibrated, and in step with independent oracles."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_monitor.domain.statistics import AlphaSpending, chi_square, exceedance, holm, kolmogorov_smirnov
from drift_monitor.domain.statistics.chi_square import chi_square_tail
from drift_monitor.domain.statistics.kolmogorov import _limit


def dealings(pooled: list[int], m: int):
    """Every window that can be dealt from the pooled counts, with its number of ways."""
    for window in itertools.product(*(range(size + 1) for size in pooled)):
        if sum(window) == m:
            ways = math.prod(math.comb(size, drawn) for size, drawn in zip(pooled, window, strict=True))
            yield np.array(window), ways


def brute_force(pooled: list[int], m: int, statistic, observed: float) -> float:
    total = hits = 0
    for window, ways in dealings(pooled, m):
        total += ways
        hits += ways if statistic(window, np.array(pooled) - window) >= observed - 1e-9 else 0
    return hits / total


def ks_statistic(window, reference) -> float:
    return float(np.abs(np.cumsum(window) / window.sum() - np.cumsum(reference) / reference.sum()).max())


def chi_statistic(window, reference) -> float:
    pooled = window + reference
    share = window.sum() / pooled.sum()
    kept = pooled > 0
    expected = pooled[kept] * share
    return float(((window[kept] - expected) ** 2 / (expected * (1 - share))).sum())


small = st.lists(st.integers(0, 4), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(window=small, reference=small)
def test_ks_equals_the_enumeration_of_all_dealings(window: list[int], reference: list[int]) -> None:
    size = min(len(window), len(reference))
    w, r = np.array(window[:size]), np.array(reference[:size])
    if not w.sum() or not r.sum():
        return
    outcome = kolmogorov_smirnov(w, r, screen=1.0)
    expected = brute_force((w + r).tolist(), int(w.sum()), ks_statistic, ks_statistic(w, r))
    assert outcome.effect == pytest.approx(ks_statistic(w, r))
    assert outcome.p_value == pytest.approx(expected, rel=1e-9)


def fall_statistic(window, reference) -> float:
    return float((np.cumsum(window) / window.sum() - np.cumsum(reference) / reference.sum()).max())


@settings(max_examples=60, deadline=None)
@given(window=small, reference=small)
def test_a_fall_equals_the_enumeration_of_all_dealings(window: list[int], reference: list[int]) -> None:
    size = min(len(window), len(reference))
    w, r = np.array(window[:size]), np.array(reference[:size])
    if not w.sum() or not r.sum():
        return
    outcome = kolmogorov_smirnov(w, r, falls_only=True, screen=1.0)
    observed = max(0.0, fall_statistic(w, r))
    expected = brute_force((w + r).tolist(), int(w.sum()), fall_statistic, observed) if observed > 1e-12 else 1.0
    assert outcome.p_value == pytest.approx(expected, rel=1e-9)
    assert kolmogorov_smirnov(r[::-1], w[::-1], falls_only=True, screen=1.0).effect == pytest.approx(outcome.effect)


@settings(max_examples=60, deadline=None)
@given(window=small, reference=small)
def test_chi_square_is_never_below_the_enumeration_and_close_to_it(window: list[int], reference: list[int]) -> None:
    size = min(len(window), len(reference))
    w, r = np.array(window[:size]), np.array(reference[:size])
    if not w.sum() or not r.sum():
        return
    outcome = chi_square(w, r, screen=1.0)
    pooled, m, observed = (w + r).tolist(), int(w.sum()), chi_statistic(w, r)
    assert outcome.p_value >= brute_force(pooled, m, chi_statistic, observed) - 1e-9
    assert outcome.p_value <= brute_force(pooled, m, chi_statistic, observed * (1 - len(pooled) / 512)) + 1e-9


def test_ks_without_ties_equals_scipy() -> None:
    rng = np.random.default_rng(5)
    for m, n, shift in ((20, 30, 0.3), (50, 75, 0.5), (100, 400, 0.2)):
        a, b = rng.normal(shift, 1, m), rng.normal(0, 1, n)
        order = np.argsort(np.concatenate([a, b]))
        window = (order < m).astype(np.int64)
        ours = kolmogorov_smirnov(window, 1 - window, screen=1.0)
        theirs = scipy.stats.ks_2samp(a, b, method="exact")
        assert ours.effect == pytest.approx(theirs.statistic)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)


def test_large_samples_take_a_limit_that_agrees() -> None:
    assert _limit(1.0) == pytest.approx(scipy.stats.kstwobign.sf(1.0), rel=1e-9)
    assert _limit(3.0) == pytest.approx(scipy.stats.kstwobign.sf(3.0), rel=1e-6)
    window, reference = np.full(32, 400), np.full(32, 2_000)
    assert kolmogorov_smirnov(window, reference).p_value == 1.0
    window[:16] += 40
    assert kolmogorov_smirnov(window, reference).p_value < 1e-3


@pytest.mark.parametrize(("x", "freedom"), [(0.5, 1), (3.84, 1), (30.0, 9), (9.0, 9), (120.0, 33), (2.0, 33)])
def test_the_chi_square_tail_equals_scipy(x: float, freedom: int) -> None:
    assert chi_square_tail(x, freedom) == pytest.approx(scipy.stats.chi2.sf(x, freedom), rel=1e-9)


def test_large_tables_take_the_limit() -> None:
    rng = np.random.default_rng(1)
    window, reference = rng.multinomial(5_000, np.full(10, 0.1)), rng.multinomial(60_000, np.full(10, 0.1))
    theirs = scipy.stats.chi2_contingency(np.array([window, reference]))
    assert chi_square(window, reference).p_value == pytest.approx(theirs.pvalue, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 60), reference=st.integers(20, 200), data=st.data())
def test_exceedance_equals_the_beta_binomial(rows: int, reference: int, data: st.DataObject) -> None:
    beyond, known = data.draw(st.integers(0, rows)), data.draw(st.integers(1, reference // 4))
    outcome = exceedance(beyond, rows, known, reference)
    if beyond / rows <= known / reference:
        assert outcome.p_value == 1.0
    else:
        oracle = scipy.stats.betabinom.sf(beyond - 1, rows, known, reference + 1 - known)
        assert outcome.p_value == pytest.approx(oracle, rel=1e-6)


def test_empty_sides_say_nothing() -> None:
    nothing, something = np.zeros(3, dtype=np.int64), np.array([1, 2, 3])
    for test in (kolmogorov_smirnov, chi_square):
        assert test(nothing, something).p_value == 1.0
        assert test(something, nothing).p_value == 1.0
    assert exceedance(0, 0, 5, 10).p_value == 1.0


def test_null_p_values_are_not_smaller_than_they_should_be() -> None:
    """2,000 windows of 100 against references of 75 and 400, edges at the reference's own quantiles."""
    rng = np.random.default_rng(11)
    for n in (75, 400):
        p_values = []
        for _ in range(1_000):
            reference = rng.normal(size=n)
            edges = np.quantile(reference, np.linspace(0, 1, 33)[1:-1])
            counts = [np.bincount(np.searchsorted(edges, x), minlength=32) for x in (rng.normal(size=100), reference)]
            p_values.append(kolmogorov_smirnov(*counts).p_value)
        assert np.mean(np.array(p_values) <= 0.05) <= 0.07
        assert np.mean(np.array(p_values) <= 0.01) <= 0.02


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, ours in zip(p_values, adjusted, strict=True):
        assert raw <= ours <= min(1.0, raw * len(p_values)) + 1e-12
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))


@pytest.mark.parametrize("planned", [1, 100, 43_200])
def test_the_alpha_of_a_month_never_exceeds_its_budget(planned: int) -> None:
    spending = AlphaSpending(budget=1.0, planned=planned)
    spent = math.fsum(spending.alpha(index) for index in range(300_000))
    assert spent <= 1.0
    assert all(spending.alpha(i) >= spending.alpha(i + 1) for i in range(1_000))
