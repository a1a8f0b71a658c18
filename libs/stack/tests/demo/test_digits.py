"""The demo's data is real, split once and for all, and shifted as the story says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from millrace_stack.demo import digits


def test_the_split_is_fixed_disjoint_and_whole() -> None:
    first, again = digits.split(), digits.split()
    assert [len(part.scans) for part in (first.train, first.holdout, first.traffic)] == [1_000, 400, 397]
    assert np.array_equal(first.holdout.scans, again.holdout.scans)
    together = np.concatenate([first.train.scans, first.holdout.scans, first.traffic.scans])
    assert together.shape == (1_797, 8, 8)
    assert together.max() == 255


def test_files_hold_the_very_pixels_in_a_folder_per_digit(tmp_path: Path) -> None:
    part = digits.split().holdout
    digits.write(part, tmp_path)
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 400
    for path in files[:20]:
        number, digit = int(path.stem), int(path.parent.name)
        assert part.digits[number] == digit
        assert np.array_equal(np.asarray(Image.open(path)), part.scans[number])


def test_a_shift_keeps_the_truth_inverts_and_is_repeatable() -> None:
    part = digits.split().traffic
    shifted = digits.shifted(part, 3)
    assert np.array_equal(shifted.digits, part.digits)
    assert np.array_equal(shifted.scans, digits.shifted(part, 3).scans)
    assert not np.array_equal(shifted.scans, digits.shifted(part, 4).scans)
    assert shifted.scans.mean() > 255 - part.scans.mean() - 20
