"""`Dataset.as_torch` in PyTorch's own `DataLoader`, with worker processes."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("PyTorch is not in this environment", allow_module_level=True)

from torch.utils.data import DataLoader

from millrace.datasets.sample_order import Position
from millrace.datasets.sources import SourceFile
from millrace_sdk import AsyncCatalog, Catalog, Dataset
from millrace_sdk.committing import Change, commit_files, ensure_dataset
from millrace_sdk.discovery import Access

pytestmark = [
    pytest.mark.servers,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # more workers than cores, on purpose
]
FILES = {f"train/{number:03d}.txt": f"file {number}".encode() for number in range(100)}
BATCH = 8


async def commit(name: str) -> None:
    async with AsyncCatalog.of(Access(), project="default") as catalog:
        await ensure_dataset(catalog, name)
        files = (SourceFile.of_bytes(path, data) for path, data in FILES.items())
        await commit_files(catalog, name, files, Change(message="made for a loader"))


@pytest.fixture
def scans(catalog: Catalog) -> Iterator[Dataset]:
    asyncio.run(commit("scans"))
    with Dataset.open("scans") as found:
        yield found


def batches(scans: Dataset, at: Position, workers: int) -> list[Any]:
    """Return the batches of a loader as lists of (path, bytes)."""
    loader = DataLoader(
        scans.as_torch(batch=BATCH, at=at, window=2), batch_size=BATCH, num_workers=workers, collate_fn=list
    )
    return list(loader)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_batches_and_their_order_do_not_depend_on_the_number_of_workers(scans: Dataset, workers: int) -> None:
    alone = batches(scans, Position(7), 0)
    assert sorted(sample for batch in alone for sample in batch) == sorted(FILES.items())
    assert batches(scans, Position(7), workers) == alone


def test_an_epoch_is_gone_on_with_by_another_number_of_workers(scans: Dataset) -> None:
    whole = batches(scans, Position(7, 1), 3)
    assert batches(scans, Position(7, 1, 5 * BATCH), 2) == whole[5:]
    assert batches(scans, Position(7, 2), 3) != whole
