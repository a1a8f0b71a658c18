from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import Invalid
from millrace.objects import coalesce, slices

RANGES = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100)), max_size=30)


@given(ranges=RANGES, gap=st.integers(0, 200), longest=st.integers(1, 400))
def test_joined_ranges_cover_what_was_asked(ranges: list[tuple[int, int]], gap: int, longest: int) -> None:
    data = bytes(index % 251 for index in range(1_000))
    spans = coalesce(ranges, gap=gap, longest=longest)
    answers = [(span, data[span.start : span.start + span.length]) for span in spans]
    assert slices(ranges, answers) == [data[start : start + length] for start, length in ranges]
    widest = max((length for _, length in ranges), default=0)
    assert all(span.length <= max(longest, widest) for span in spans)


def test_near_ranges_share_a_request_and_far_ones_do_not() -> None:
    assert [(span.start, span.length) for span in coalesce([(0, 10), (20, 10), (500, 1)], gap=10)] == [
        (0, 30),
        (500, 1),
    ]


def test_negative_ranges_are_refused() -> None:
    with pytest.raises(Invalid):
        coalesce([(-1, 5)])
