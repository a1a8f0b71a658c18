"""What the frameworks' loaders see of a version. TensorFlow and PyTorch are imported only where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from millrace.datasets.batches import check_shard
from millrace.datasets.sample_order import Position

if TYPE_CHECKING:
    from millrace.datasets.readers import Dataset

HANDED_OVER = 2 * 1024 * 1024
"""Bytes that Python gives to TensorFlow at once, at least: the call costs more than a batch of small samples."""


def as_tf_data(dataset: Dataset, batch: int, *, unbatch: bool = True, **options: Any) -> Any:
    """Return a `tf.data.Dataset` of (path, bytes) as scalar strings, or as vectors where `unbatch` is False.

    Python hands over whole batches, several where samples are small; TensorFlow cuts them apart.
    """
    import tensorflow as tf  # noqa: PLC0415 - only who asks for it pays for it

    names = np.array([path.encode() for path in dataset.paths], dtype=object)
    at_once = batch * _batches_at_once(dataset, batch)

    def generate() -> Iterator[tuple[Any, Any]]:
        for rows, contents in dataset.batches(at_once, **options):
            yield names[rows], np.array(contents, dtype=object)

    strings = tf.TensorSpec(shape=(None,), dtype=tf.string)
    found = tf.data.Dataset.from_generator(generate, output_signature=(strings, strings)).prefetch(2)
    if unbatch:
        return found.unbatch()
    return found if at_once == batch else found.rebatch(batch)


def _batches_at_once(dataset: Dataset, batch: int) -> int:
    """Return how many batches together have about `HANDED_OVER` bytes; one where that is not known."""
    if batch < 1 or dataset.manifest is None or not len(dataset):
        return 1
    mean = max(1, dataset.manifest.bytes // len(dataset))
    return max(1, HANDED_OVER // (batch * mean))


def as_torch(dataset: Dataset, *, batch: int = 256, **options: Any) -> Any:
    """Return an `IterableDataset` of (path, bytes).

    The workers of a `DataLoader` take whole batches in turn, which is how the loader asks them: with `batch_size=batch`
    it gives the same batches in the same order for any number of workers.
    """
    from torch.utils.data import IterableDataset, get_worker_info  # noqa: PLC0415 - as above

    class Samples(IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Iterator[tuple[str, bytes]]:
            worker = get_worker_info()
            turn = (0, 1) if worker is None else (worker.id, worker.num_workers)
            for rows, contents in dataset.batches(batch, turn=turn, **options):
                yield from zip((dataset.paths[row] for row in rows), contents, strict=True)

    return Samples()


def as_webdataset(dataset: Dataset, **options: Any) -> Iterator[dict[str, Any]]:
    """Yield `{"__key__": path without extensions, "<extension>": bytes, …}`; keys come in the order of `options`.

    A sample is a run of files of one folder with one base name up to the first dot, as in WebDataset's shards.
    """
    keys = [_split(path)[0] for path in dataset.paths]
    starts = [index for index, key in enumerate(keys) if not index or key != keys[index - 1]]
    groups = list(zip(starts, [*starts[1:], len(keys)], strict=True))
    at: Position = options.get("at") or Position()
    part, parts = check_shard(options.get("shard", (0, 1)))
    order = range(len(groups)) if at.seed is None else _group_order(dataset, starts, at, options.get("window"))
    mine = [place for place in range(at.position, len(order)) if place % parts == part]
    first_rows = np.array([starts[order[place]] for place in mine], dtype=np.int64)
    for number, place in enumerate(mine):
        first, last = groups[order[place]]
        dataset.expect(first_rows[number:])
        contents = dataset.read_many(range(first, last))
        parts_of = {_split(dataset.paths[row])[1]: data for row, data in zip(range(first, last), contents, strict=True)}
        yield {"__key__": keys[first], **parts_of}


def _group_order(dataset: Dataset, starts: list[int], at: Position, window: int | None) -> list[int]:
    """Return the order of the samples: that of their first files."""
    assert at.seed is not None  # noqa: S101 - asked only then
    ranks = np.empty(len(dataset), dtype=np.int64)
    ranks[dataset.order(at.seed, at.epoch, window=window)] = np.arange(len(dataset))
    return [int(index) for index in np.argsort(ranks[starts], kind="stable")]


def _split(path: str) -> tuple[str, str]:
    folder, slash, name = path.rpartition("/")
    base, _, extension = name.partition(".")
    return f"{folder}{slash}{base}", extension or "data"
