"""The drift reference: both sides measure alike, and what is not a reference is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from millrace import reference as ref
from millrace.errors import Invalid, TooLarge

RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.random((60, 8, 8, 1))
OUTPUTS = RANDOM.dirichlet(np.ones(3), 60)


def make() -> ref.Reference:
    basis = ref.fit_basis(IMAGES)
    error = basis.error(IMAGES)
    bounds = dict(zip(("q005", "q05", "q95", "q995"), np.quantile(error, [0.005, 0.05, 0.95, 0.995]), strict=True))
    return ref.Reference(
        dataset="digits",
        commit="a" * 64,
        run="00000000-0000-7000-8000-000000000000",
        record_set="holdout",
        rows=60,
        shape=(8, 8, 1),
        features=tuple(ref.histogram(name, values) for name, values in ref.summarise(IMAGES).items()),
        basis=basis,
        error=ref.histogram(ref.ERROR, error),
        error_bounds=ref.Bounds(**bounds),
        predictions=ref.Predictions(
            classes=("a", "b", "c"),
            counts=(*np.bincount(ref.predicted(OUTPUTS, 3), minlength=4).tolist(),),
            confidence=ref.histogram(ref.CONFIDENCE, ref.confidence(OUTPUTS)),
            accuracy=0.5,
            basis="held-out",
        ),
    )


def test_counts_of_the_reference_rows_are_those_that_measuring_gives() -> None:
    reference = make()
    measured, classes = ref.measure(reference, IMAGES, OUTPUTS)
    for histogram in (*reference.features, reference.error, reference.predictions.confidence):
        assert tuple(ref.count(measured[histogram.name], histogram.edges)) == histogram.counts
        assert sum(histogram.counts) == 60
    assert tuple(np.bincount(classes, minlength=4)) == reference.predictions.counts


def test_bytes_round_trip_and_are_canonical() -> None:
    reference = make()
    raw = reference.to_bytes()
    assert ref.load(raw) == reference
    assert ref.load(raw).to_bytes() == raw


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b'{"schema_version": 2}', b"\xff"])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        ref.load(raw)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLarge):
        ref.load(b" " * (ref.MAX_REFERENCE_BYTES + 1))


def test_a_histogram_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="two more"):
        ref.Histogram(name="x", edges=(1.0,), counts=(1,))
    with pytest.raises(ValueError, match="ascend"):
        ref.Histogram(name="x", edges=(1.0, 1.0), counts=(1, 1, 1, 1))


@given(hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_every_value_falls_into_one_cell(values: np.ndarray) -> None:
    counts = ref.count(values, (-1.0, 0.0, 2.5))
    assert counts.sum() == len(values)
    assert counts[-1] == np.sum(~np.isfinite(values))


def test_vectors_and_large_images_are_measured_too() -> None:
    assert list(ref.summarise(RANDOM.random((5, 3)))) == ["x000", "x001", "x002"]
    assert ref.flatten(RANDOM.random((2, 100, 70, 3))).shape == (2, 256)
    assert len(ref.summarise(RANDOM.random((2, 100, 70, 3)))) == 3 + 16


def test_a_row_without_a_probability_has_no_class() -> None:
    outputs = np.array([[0.2, 0.8], [np.nan, 1.0]])
    assert ref.predicted(outputs, 2).tolist() == [1, 2]


def test_the_error_sees_what_the_training_rows_do_not_span() -> None:
    flat = RANDOM.random((200, 2)) @ RANDOM.random((2, 64))
    basis = ref.fit_basis(flat, share=0.9999)
    assert basis.error(flat).max() < 0.02
    assert basis.error(flat + RANDOM.normal(0, 1, flat.shape)).min() > 0.3
    with pytest.raises(Invalid):
        basis.error(RANDOM.random((2, 63)))
