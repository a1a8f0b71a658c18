"""Reading copies again at a bounded rate: every byte on a schedule or when asked, a sample of each every hour."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from cache_manager.application import metrics
from cache_manager.application.lake_ports import Checked
from cache_manager.application.repairing import aside
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move, State
from millrace.errors import Fenced, MillraceError
from millrace.leases.beats import Beats
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)

PIECE = 16 * 1024 * 1024
"""Bytes that are read before the next pause."""

TICK_SECONDS = 5.0


class Scrubber:
    """Scrubs one piece after the other; one process does it for all, under a leadership."""

    def __init__(self, world: World, *, chance: random.Random | None = None) -> None:
        self._world = world
        self._chance = chance or random.Random()  # noqa: S311 - which sample is read is no secret
        self._sampled = Beats()

    async def run(self, _lease: Lease) -> None:
        """Scrub for ever."""
        while True:
            worked = False
            try:
                worked = await self.step()
            except (MillraceError, OSError) as error:
                log.warning("scrubbing waits", reason=str(error))
            if not worked:
                await self._world.clock.sleep(TICK_SECONDS)

    async def step(self) -> bool:
        """Read one piece of what is due, and pause as the rate asks for; False if nothing is due."""
        ready = await self._world.entries.find({"state": State.READY}, limit=100_000)
        entry = self._sample(ready)
        if entry is not None:
            await self._piece(entry, self._chance.randrange(max(1, entry.files)), sample=True)
            return True
        entry = self._due(ready)
        if entry is None:
            return False
        await self._piece(entry, entry.scrub_position, sample=False)
        return True

    def _sample(self, ready: Sequence[Entry]) -> Entry | None:
        """Return an entry that was not sampled for an hour as far as this process knows."""
        now = self._world.clock.monotonic()
        self._sampled.keep({entry.id for entry in ready})
        for entry in ready:
            if self._sampled.silence(entry.id, entry.token, now) >= self._world.limits.sample:
                self._sampled.keep({other.id for other in ready if other.id != entry.id})
                return entry
        return None

    def _due(self, ready: Sequence[Entry]) -> Entry | None:
        """Return what was asked for, else what is under way, else what was not read for longest, if that is long."""
        before = self._world.clock.now() - timedelta(seconds=self._world.limits.scrub)
        due = [entry for entry in ready if entry.scrub_wanted or entry.scrub_position or _since(entry, before)]

        def order(entry: Entry) -> tuple[bool, bool, datetime, str]:
            last = entry.scrubbed_at or entry.ready_at or before
            return not entry.scrub_wanted, not entry.scrub_position, last, entry.id

        return min(due, key=order, default=None)

    async def _piece(self, entry: Entry, start: int, *, sample: bool) -> None:
        world, begun = self._world, self._world.clock.monotonic()
        folder = await world.folder(entry.site)
        facts = await world.lake.facts(entry.project, entry.commit, entry.selection)
        found = await world.lake.check(entry.project, facts, folder.path(entry.key), start, PIECE)
        metrics.SCRUBBED.labels(entry.site).inc(found.bytes)
        if found.damaged:
            await self._damage(entry, found)
        elif not sample:
            ended = None if found.next is not None else world.clock.now()
            await world.entries.scrubbed(entry, position=found.next or 0, ended=ended)
        pause = found.bytes / world.limits.scrub_rate - (world.clock.monotonic() - begun)
        await world.clock.sleep(max(0.0, pause))

    async def _damage(self, entry: Entry, found: Checked) -> None:
        """Let nobody read the damaged files any more, and let a worker repair the copy."""
        world, folder = self._world, await self._world.folder(entry.site)
        if await folder.problem() is not None:  # an export that went away meanwhile is no damage
            return
        metrics.SCRUB_ERRORS.labels(entry.site).inc(len(found.damaged))
        log.error("damaged files", entry=entry.id, files=len(found.damaged), first=found.damaged[0])
        reason = f"{len(found.damaged)} damaged files, first {found.damaged[0]}"[:1_000]
        try:
            marked = await world.entries.move(entry, Move.FIND_DAMAGE, reason=reason, attempts=0)
            await aside(marked, found.damaged, folder, world)
        except Fenced:
            return
        world.kick()


def _since(entry: Entry, before: datetime) -> bool:
    last = entry.scrubbed_at or entry.ready_at
    return last is not None and last <= before
