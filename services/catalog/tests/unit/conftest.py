"""Handlers on in-memory adapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from catalog.adapters.checking import LakeChecker
from catalog.adapters.lake import ObjectStoreLake
from catalog.application.caller import Caller, Reply
from catalog.application.datasets import CommitDataset, commit_dataset, describe_dataset
from catalog.application.policies.execute import execute_policies
from catalog.application.sequencer import chain_audit, number_events
from catalog.testing import MemoryDocuments, MemoryTransactor
from millrace.clock import Clock, SystemClock
from millrace.datasets.push import PushResult, push
from millrace.events import AnyEvent
from millrace.testing.objects import InMemoryObjectStore

ANNA = Caller(principal="anna", project="default")


@dataclass
class World:
    """A catalog in memory."""

    folder: Path
    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    clock: Clock = field(default_factory=SystemClock)
    store: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)

    def __post_init__(self) -> None:
        self.transact = MemoryTransactor(self.documents, self.clock)
        self.lake = ObjectStoreLake(self.store)
        self.checker = LakeChecker(self.store)

    async def run(self, handler: Any, *args: Any, **more: Any) -> Any:
        """Run a handler in one transaction."""

        async def work(uow: Any) -> Any:
            return await handler(*args, uow=uow, **more)

        return await self.transact(work)

    async def push(self, **files: bytes) -> PushResult:
        """Upload files as a manifest."""
        folder = self.folder / f"tree-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        for name, data in files.items():
            (folder / f"{name}.txt").write_bytes(data)
        return await push(folder, self.store, project="default")

    async def dataset(self, name: str = "digits") -> None:
        """Make a dataset."""
        await self.run(describe_dataset, name, "", ANNA, clock=self.clock)

    async def commit(
        self, pushed: PushResult, *, parent: str | None = None, caller: Caller = ANNA, name: str = "digits", **more: Any
    ) -> Reply:
        """Commit what was pushed."""
        cmd = CommitDataset(
            dataset=name,
            manifest=pushed.manifest_id,
            tree_root=pushed.tree_root,
            files=pushed.files,
            bytes=pushed.bytes,
            parent=parent,
            **more,
        )
        return await commit_dataset(
            cmd,
            caller,
            documents=self.documents,
            transact=self.transact,  # type: ignore[arg-type]
            lake=self.lake,
            checker=self.checker,
            clock=self.clock,
        )

    async def policies(self) -> int:
        """Deal with everything that is due for policies."""
        made = 0
        while due := await self.documents.log.find({"policies": "due"}):
            for row in due:
                made += await self.run(execute_policies, row, clock=self.clock)
        return made

    async def settle(self) -> None:
        """Run the reconcilers once."""
        await self.policies()
        await self.transact(number_events)
        await self.transact(chain_audit)

    def events(self, event_type: str) -> list[AnyEvent]:
        """Return what was published of a type."""
        return [event for event in self.documents.published if event.type == event_type]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty catalog in memory."""
    return World(tmp_path)
