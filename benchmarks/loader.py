"""Reading samples near the GPUs: packs through `Dataset`, beside bare `pread` and beside tf.data on a TFRecord.

    python benchmarks/loader.py [--samples 20000] [--size 19000] [--rounds 7]

One thread reads; everything is warm in the page cache. All ways give the same bytes, in an order shuffled within four
packs (the TFRecord in the order in which it was written, which favours it). Interleaved; medians, lowest and highest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.push import push_files
from millrace.datasets.readers import Dataset
from millrace.datasets.sample_order import Position
from millrace.datasets.sources import SourceFile
from millrace.testing.objects import InMemoryObjectStore

WINDOW = 4
BATCH = 256


def made(folder: Path, samples: int, size: int) -> Dataset:
    """Return packs of so many samples of `size` random bytes each."""
    chance = random.Random(3)
    store = InMemoryObjectStore()

    async def fill() -> None:
        files = (SourceFile.of_bytes(f"{number:07}", chance.randbytes(size)) for number in range(samples))
        pushed = await push_files(files, store, project="bench")
        await fill_packs(store, pushed.manifest, folder / "packs", project="bench")

    asyncio.run(fill())
    return Dataset.open_packs(folder / "packs")


def ours(dataset: Dataset, epoch: int) -> Iterator[int]:
    """Yield the sizes of batches."""
    for _, contents in dataset.batches(BATCH, at=Position(7, epoch, 0), window=WINDOW):
        yield len(contents)


def bare(dataset: Dataset, folder: Path) -> Callable[[int], Iterator[int]]:
    """Return the same reads without anything around them: one `pread` a sample, nothing verified."""
    assert dataset.manifest is not None
    handles = [os.open(folder / "packs" / "packs" / pack.id, os.O_RDONLY) for pack in dataset.manifest.packs]
    places = [(it.pack, it.offset, it.size) for it in dataset.manifest.entries()]

    def read(epoch: int) -> Iterator[int]:
        for row in dataset.order(7, epoch, window=WINDOW).tolist():
            pack, offset, size = places[row]
            os.pread(handles[pack or 0], size, offset)
            yield 1

    return read


def tf_data(dataset: Dataset) -> Callable[[int], Iterator[int]]:
    """Return a pass over the dataset as tf.data sees it."""

    def read(epoch: int) -> Iterator[int]:
        for _, contents in dataset.as_tf_data(batch=BATCH, unbatch=False, at=Position(7, epoch, 0), window=WINDOW):
            yield int(contents.shape[0])

    return read


def tf_record(dataset: Dataset, folder: Path) -> Callable[[int], Iterator[int]]:
    """Return a pass over a TFRecord of the same bytes."""
    import tensorflow as tf  # noqa: PLC0415 - its start is seconds, and its messages many

    path = str(folder / "samples.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for _, data in dataset.samples():
            writer.write(data)

    def read(_epoch: int) -> Iterator[int]:
        for batch in tf.data.TFRecordDataset(path).batch(BATCH):
            yield int(batch.shape[0])

    return read


def rate(read: Callable[[int], Iterator[int]], epoch: int) -> float:
    """Return samples a second of one pass."""
    started = time.perf_counter()
    count = sum(read(epoch))
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure, and print rates and ratios."""
    parser = argparse.ArgumentParser(prog="loader.py")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=19_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as name:
        folder = Path(name)
        dataset = made(folder, options.samples, options.size)
        ways: dict[str, Callable[[int], Iterator[int]]] = {
            "packs": lambda epoch: ours(dataset, epoch),
            "bare pread": bare(dataset, folder),
            "packs, tf.data": tf_data(dataset),
            "TFRecord, tf.data": tf_record(dataset, folder),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(options.rounds + 1):
            for way in list(ways)[:: -1 if number % 2 else 1]:
                found = rate(ways[way], number)
                if number:  # the first round warms the page cache and TensorFlow
                    rates[way].append(found)
        report(rates, options)
        dataset.close()


def report(rates: dict[str, list[float]], options: Any) -> None:
    """Print the table."""
    print(f"{options.samples} samples of {options.size} bytes, thousands a second on one thread")
    for way, found in rates.items():
        print(f"  {way}: {statistics.median(found) / 1e3:.0f} ({min(found) / 1e3:.0f} to {max(found) / 1e3:.0f})")
    for mine, peer in (("packs", "bare pread"), ("packs, tf.data", "TFRecord, tf.data")):
        ratios = [one / other for one, other in zip(rates[mine], rates[peer], strict=True)]
        print(f"  {mine} / {peer}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
