"""Buffers that are used again."""

from __future__ import annotations

from millrace.datasets.buffers import STEP, Buffers


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
