"""Carrying garbage collections out, round by round: condemn, wait, look again, sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from catalog.application.collecting import BATCH, find_garbage
from catalog.application.lake import Lake
from catalog.application.ports import Documents, Transact, Unit
from catalog.domain.collections import Collection, Condemned, StoredObject, Tally, condemned_id
from millrace.clock import Clock
from millrace.failpoints import fp

SHORTEST_SETTLE = 120.0
"""Seconds: twice what MongoDB lets a transaction last. A commit that began before a sentence has ended by then."""


class Collector:
    """Takes every collection that is under way further. Any number of processes may do so at once.

    `settle` is the time in seconds, by this process's own clock, that an object stays condemned before it is swept.
    """

    def __init__(self, documents: Documents, transact: Transact, lake: Lake, clock: Clock, *, settle: float) -> None:
        self._documents, self._transact, self._lake, self._clock = documents, transact, lake, clock
        self._settle = settle
        self._since: dict[str, float] = {}
        self._due: dict[str, float] = {}

    async def step(self) -> None:
        """Make a round for every collection in which something can be done."""
        for collection in await self._documents.collections.find({}, limit=BATCH):
            now = self._clock.monotonic()
            if collection.under_way and (collection.state == "condemning" or self._due.get(collection.id, now) <= now):
                await self._round(collection)

    async def _round(self, collection: Collection) -> None:
        project = collection.project
        garbage = await find_garbage(project, collection.cutoff, documents=self._documents, lake=self._lake)
        wanted = {condemned_id(project, item.kind, item.id): item for item in garbage.objects}
        known = {row.id: row async for row in self._condemned(project)}
        needed = [row for row in known.values() if row.state == "condemned" and row.id not in wanted]
        await self._in_batches(needed, self._spare)
        await self._in_batches([item for name, item in wanted.items() if name not in known], self._condemn, project)
        ripe = [row for row in known.values() if row.state == "sweeping" or (row.id in wanted and self._ripe(row))]
        swept = Tally()
        for start in range(0, len(ripe), BATCH):
            swept = swept.sum(await self._sweep(ripe[start : start + BATCH]))
        await self._report(collection, swept)

    def _ripe(self, row: Condemned) -> bool:
        now = self._clock.monotonic()
        return now - self._since.setdefault(row.id, now) >= self._settle

    async def _condemned(self, project: str) -> AsyncIterator[Condemned]:
        after: str | None = None
        while rows := await self._documents.condemned.find({"project": project}, after=after, limit=BATCH):
            for row in rows:
                yield row
            after = rows[-1].id

    async def _in_batches(self, items: list[Any], handle: Callable[..., Awaitable[None]], *args: Any) -> None:
        for start in range(0, len(items), BATCH):
            await self._transact(partial(handle, items[start : start + BATCH], *args))

    async def _spare(self, rows: list[Condemned], uow: Unit) -> None:
        for row in rows:
            current = await uow.condemned.get(row.id)
            if current is not None and current.state == "condemned":
                await uow.condemned.remove(row.id)

    async def _condemn(self, items: list[StoredObject], project: str, uow: Unit) -> None:
        for item in items:
            sentence = condemned_id(project, item.kind, item.id)
            if await uow.condemned.get(sentence) is None:
                row = Condemned(id=sentence, project=project, kind=item.kind, object=item.id, size=item.size)
                await uow.condemned.add(row)

    async def _sweep(self, rows: list[Condemned]) -> Tally:
        """Claim the rows that nobody spared meanwhile, delete their objects, and forget them."""
        claimed: list[Condemned] = await self._transact(partial(self._claim, rows))
        await fp("collect.G2.after")
        await asyncio.gather(*(self._lake.delete(row.project, row.kind, row.object) for row in claimed))
        await fp("collect.G3.after")
        await self._transact(partial(self._forget, claimed))
        for row in claimed:
            self._since.pop(row.id, None)
        return Tally(len(claimed), sum(row.size for row in claimed))

    async def _claim(self, rows: list[Condemned], uow: Unit) -> list[Condemned]:
        claimed = []
        for row in rows:
            current = await uow.condemned.get(row.id)
            if current is None:
                continue
            if current.state == "condemned":
                current = await uow.condemned.save(replace(current, state="sweeping"))
            claimed.append(current)
        return claimed

    async def _forget(self, rows: list[Condemned], uow: Unit) -> None:
        for row in rows:
            await uow.condemned.remove(row.id)

    async def _report(self, collection: Collection, swept: Tally) -> None:
        left = [row async for row in self._condemned(collection.project)]
        now = self._clock.monotonic()
        since = [self._since.setdefault(row.id, now) for row in left]
        self._due[collection.id] = min(since, default=now) + self._settle
        await self._transact(partial(self._note, collection.id, swept, Tally(len(left), sum(row.size for row in left))))

    async def _note(self, name: str, swept: Tally, left: Tally, uow: Unit) -> None:
        current = await uow.collections.get(name)
        if current is None or not current.under_way:
            return
        moved = replace(current, swept=current.swept.sum(swept), condemned=left)
        if left.objects:
            reason = f"what is condemned is swept after {self._settle:.0f} s, when no commit can be under way with it"
            await uow.collections.save(replace(moved, state="waiting", reason=reason))
        else:
            await uow.collections.save(moved.end("done", at=self._clock.now()))
