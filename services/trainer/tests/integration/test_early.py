"""Early start: a training reads packs that its agent asks for, in the order of its shuffle, without a token."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from millrace.datasets import folder_push
from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.push import push
from millrace.datasets.readers import Dataset
from millrace.events import Selected
from millrace.testing.objects import InMemoryObjectStore
from trainer.domain.components import Components
from trainer.domain.jobs import State

pytestmark = pytest.mark.servers

READS = Path(__file__).parent.parent / "components" / "reads.py"
PACKS = {"selected": Selected(mode="packs"), "early": True}


@pytest.fixture
async def copy(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole copy, of which only the manifest can be read yet: other packs appear when they are asked for."""
    monkeypatch.setattr(folder_push, "PACK_TARGET", 3_000)
    command = (sys.executable, str(READS))
    lab.components = Components({"reads": command})
    tree, whole, shelf = (lab.folder / name for name in ("tree", "whole", "shelf"))
    for index in range(30):
        path = tree / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([index]) * 600)
    store = InMemoryObjectStore()
    pushed = await push(tree, store, project="default")
    await fill_packs(store, pushed.manifest, whole, project="default")
    (shelf / "packs").mkdir(parents=True)
    (shelf / "manifest").hardlink_to(whole / "manifest")
    lab.neighbours.early, lab.neighbours.data = str(shelf), str(lab.folder / "final")

    def land(names: list[str]) -> None:
        for name in names[:1]:
            target = shelf / "packs" / name
            if not target.exists():
                target.hardlink_to(whole / "packs" / name)

    lab.neighbours.on_wish = land
    return whole


def read(lab: Any, run: str) -> list[Any]:
    lines = [text for (owner, _, _), text in sorted(lab.neighbours.lines.items()) if owner == run]
    return [json.loads(line.removeprefix("read ")) for line in lines if line.startswith("read ")]


async def test_a_training_reads_packs_as_they_come(lab: Any, copy: Path) -> None:
    async with lab.trainer(components={"reads": (sys.executable, str(READS))}):
        run = await lab.request("reads", **PACKS)
        await lab.until(run, State.COMPLETED, seconds=60)
    with Dataset.open_packs(copy) as whole:
        expected = [[path, blake3(data).hexdigest()] for path, data in whole.samples(seed=3, window=1)]
        order = whole.order(3, window=1)
        packs = [whole._manifest.packs[pack].id for pack in whole._groups[order].tolist()]
    assert read(lab, run) == expected
    asked = [body["names"][0] for lease, body in lab.neighbours.wishes if body["names"]]
    assert list(dict.fromkeys(asked)) == list(dict.fromkeys(packs))
    assert {lease for lease, _ in lab.neighbours.wishes} == {f"lease-{run}"}
    assert sum(body["waited_seconds"] for _, body in lab.neighbours.wishes) > 0
    started = {event.type: event for event in await lab.events(run)}["training.started"].data
    assert (started.path, started.cache_hit) == (lab.neighbours.data, False)


async def test_a_fill_that_fails_fails_the_training_with_its_reason(lab: Any, copy: Path) -> None:
    lab.neighbours.fill_failed = "the entry is FAILED: the lake lost pack 7"
    async with lab.trainer(components={"reads": (sys.executable, str(READS))}, attempts=1):
        run = await lab.request("reads", **PACKS)
        job = await lab.until(run, State.FAILED, seconds=60)
    assert job.exit_code == 1
    assert "the lake lost pack 7" in job.reason


async def test_who_begins_early_does_not_wait_for_the_next_poll(lab: Any, copy: Path) -> None:
    lab.neighbours.ready = False
    run = await lab.request("reads", **PACKS)  # before the only look at the queue: nothing kicks the trainer here
    async with lab.trainer(components={"reads": (sys.executable, str(READS))}, poll_seconds=600.0):
        async with asyncio.timeout(20):
            while (await lab.job(run)).reason != "it is FETCHING":
                await asyncio.sleep(0.02)
        lab.neighbours.ready = True
        await lab.until(run, State.COMPLETED, seconds=60)


async def test_only_packs_are_asked_for_early(lab: Any, copy: Path) -> None:
    async with lab.trainer(components={"reads": (sys.executable, str(READS))}, attempts=1):
        run = await lab.request("reads", early=True)
        await lab.until(run, State.FAILED, seconds=60)
        job = await lab.job(run)
    assert job.early is False
    assert lab.neighbours.wishes == []
