"""Buffers that are used again."""

from __future__ import annotations

import pytest

from millrace.datasets.buffers import STEP, Buffers
from millrace.datasets.limits import PACK_MAX
from millrace.errors import Corrupt


def test_what_was_given_back_is_lent_again() -> None:
    buffers = Buffers()
    first, second = buffers.take(5 * STEP + 1), buffers.take(5 * STEP + 1)
    assert first is not second
    assert len(first) == 6 * STEP
    buffers.give(first)
    assert buffers.take(6 * STEP) is first
    assert buffers.take(10) is not second


def test_a_small_one_makes_room_for_a_larger_one() -> None:
    buffers = Buffers()
    small = buffers.take(100)
    assert len(small) == 100
    buffers.give(small)
    large = buffers.take(101)
    assert large is not small
    buffers.give(large)
    assert buffers.take(50) is large


@pytest.mark.parametrize("size", [-1, PACK_MAX + 1, 2**62])
def test_no_size_that_somebody_claims_is_believed(size: int) -> None:
    with pytest.raises(Corrupt):
        Buffers().take(size)
