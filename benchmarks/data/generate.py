"""Seeded data of the shapes that are measured: incompressible files in class folders."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

CLASSES = 15
BLOCK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Shape:
    """A set of files; `mean` in bytes, single sizes from half to one and a half of it."""

    name: str
    files: int
    mean: int


XRAY = Shape("xray", 3_000, 398_000)
XRAY_LARGE = Shape("xray-large", 12_000, 398_000)
SMALL = Shape("small", 20_000, 19_000)
MANY = Shape("many", 627_615, 800)


def generate(root: Path, shape: Shape, *, seed: int = 7) -> int:
    """Write the files below `root` and return their bytes."""
    chance = random.Random(seed)
    block = chance.randbytes(BLOCK)
    total = 0
    per_folder = max(1, shape.files // CLASSES // 1_000 + 1)
    for index in range(shape.files):
        folder = root / f"class{index % CLASSES:02d}" / f"{index // CLASSES % per_folder:03d}"
        if index < CLASSES * per_folder:
            folder.mkdir(parents=True, exist_ok=True)
        size = int(shape.mean * (0.5 + chance.random()))
        start = chance.randrange(BLOCK - size)
        write(folder / f"img{index:06d}.png", chance.randbytes(16) + block[start : start + size - 16])
        total += size
    return total


def change(root: Path, shape: Shape, share: float, *, seed: int) -> None:
    """Give a share of the files other bytes of the same length, as an editor does: by a new file's rename."""
    chance = random.Random(seed)
    found = sorted(path for path in root.rglob("*.png"))
    for path in chance.sample(found, max(1, int(shape.files * share))):
        size = path.stat().st_size
        fresh = path.with_suffix(".new")
        write(fresh, chance.randbytes(size))
        fresh.rename(path)


def write(path: Path, data: bytes) -> None:
    """Write one file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)
