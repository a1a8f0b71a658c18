"""One window against its reference: a pure function, so that two replicas find the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from drift_monitor.domain.baseline import ERROR, Baseline, Counts, Feature
from drift_monitor.domain.statistics import Outcome, chi_square, exceedance, holm, kolmogorov_smirnov
from drift_monitor.domain.window import Pane

TAIL_SHARE = 0.05
"""Share of the reference's rows that each tail of the error holds, at least."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One test of one feature. `adjusted` is Holm's p-value over all tests of the window."""

    feature: str
    test: str
    statistic: float
    p_value: float
    effect: float
    adjusted: float = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """When a window alerts: significance at the window's share of the allowance, and a size that matters."""

    min_effect: float = 0.1
    min_rows: int = 30
    warning_level: float = 0.01


@dataclass(frozen=True, slots=True)
class Verdict:
    """`alert` opens incidents, `quiet` and `warning` windows close them, and a warning is only shown.

    An `insufficient` window has too few rows, an `unjudged` one has lost its reference: both say nothing.
    """

    outcome: str
    alpha: float
    fired: tuple[Finding, ...] = ()

    @property
    def alert(self) -> bool:
        """Return whether the window drifted."""
        return self.outcome == "alert"

    @property
    def quiet(self) -> bool:
        """Return whether the window had something to say and did not drift."""
        return self.outcome in {"quiet", "warning"}


def examine(pane: Pane, baseline: Baseline) -> tuple[Finding, ...]:
    """Return every test of the pane, most surprising first."""
    findings: list[Finding] = []
    for feature in baseline.features:
        counts = pane.counts.get(feature.name)
        if counts is not None and len(counts) == len(feature.counts):
            findings.extend(Finding(feature.name, test, *_parts(outcome)) for test, outcome in _tests(feature, counts))
    adjusted = holm([finding.p_value for finding in findings])
    corrected = [replace(finding, adjusted=value) for finding, value in zip(findings, adjusted, strict=True)]
    return tuple(sorted(corrected, key=lambda one: (one.adjusted, one.p_value, -one.effect, one.feature, one.test)))


def decide(findings: tuple[Finding, ...], *, rows: int, alpha: float, rules: Rules) -> Verdict:
    """Return the verdict on a window of `rows` rows, given its share `alpha` of the allowance."""
    if rows < rules.min_rows or not findings:
        return Verdict("insufficient", alpha, ())
    large = [finding for finding in findings if finding.effect >= rules.min_effect]
    fired = tuple(finding for finding in large if finding.adjusted <= alpha)
    if fired:
        return Verdict("alert", alpha, fired)
    warned = tuple(finding for finding in large if finding.adjusted <= rules.warning_level)
    return Verdict("warning" if warned else "quiet", alpha, warned)


def _tests(feature: Feature, counts: Counts) -> Iterator[tuple[str, Outcome]]:
    if feature.edges is None:
        yield "chi-square", chi_square(counts, feature.counts)
        return
    name = "ks-falls" if feature.falls_only else "ks"
    yield name, kolmogorov_smirnov(counts, feature.counts, falls_only=feature.falls_only)
    if feature.name == ERROR:
        yield "low-tail", _tail(counts, feature.counts, low=True)
        yield "high-tail", _tail(counts, feature.counts, low=False)


def _tail(window: Counts, reference: Counts, *, low: bool) -> Outcome:
    """Test the rows beyond the bound nearest to `TAIL_SHARE`: errors that are too small count as well as too large."""
    if not low:  # the last cell holds what is no number and stays with the large errors
        window, reference = window[::-1], reference[::-1]
    rows = int(reference.sum())
    cells, beyond = 0, 0
    while cells < len(reference) - 1 and beyond < TAIL_SHARE * rows:
        beyond += int(reference[cells])
        cells += 1
    return exceedance(int(window[:cells].sum()), int(window.sum()), beyond, rows)


def _parts(outcome: Outcome) -> tuple[float, float, float]:
    return outcome.statistic, outcome.p_value, outcome.effect
