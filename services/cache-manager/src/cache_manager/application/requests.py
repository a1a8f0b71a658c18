"""Wishes: a version should be present at a site, or absent. They are recorded; the reconciler does the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cache_manager.application import announce, metrics
from cache_manager.application.ports import Unit
from cache_manager.domain.entry import Asked, Cause, Desired, Entry
from cache_manager.domain.names import EntryKey
from cache_manager.domain.selection import WHOLE, Selection
from cache_manager.domain.states import State
from millrace.clock import Clock
from millrace.errors import Conflict

UNDER_WAY = frozenset({State.QUEUED, State.WAIT_SPACE, State.FETCHING, State.VERIFYING, State.REPAIRING})


@dataclass(frozen=True)
class RequestCache:
    """The wish that a version, or what is selected of it, be present at, or absent from, a site."""

    site: str
    project: str
    dataset: str
    version: int
    commit: str
    desired: Desired
    asked: Asked
    cause: Cause = field(default_factory=Cause)
    selection: Selection = WHOLE

    @property
    def key(self) -> EntryKey:
        """Return the entry that is meant."""
        return EntryKey(self.site, self.project, self.commit, self.selection.variant)


async def request_cache(cmd: RequestCache, *, uow: Unit, clock: Clock) -> Entry | None:
    """Record the wish, unless a newer one is known, and return the entry; None if what is not there should be absent.

    Inserting the entry's id elects the one that is filled; every later request joins it. A site that does not exist
    is no error here: the entry waits, and says for what.
    """
    entry = await uow.entries.get(cmd.key.id)
    if entry is None and cmd.desired == "absent":
        return None
    if entry is None:
        return await _first(cmd, uow=uow, clock=clock)
    asked = cmd.asked if cmd.asked.sequence else replace(cmd.asked, sequence=entry.asked.sequence)
    joins = entry.state in UNDER_WAY and entry.desired == cmd.desired == "present"
    cause = entry.cause if joins else cmd.cause
    recorded = await uow.entries.wish(entry.id, cmd.desired, asked, cause)
    if recorded and joins:
        uow.after_commit(lambda: metrics.JOINS.labels(cmd.site).inc())
    if recorded and entry.state is State.READY and cmd.desired == "present":
        await _answer(replace(entry, cause=cmd.cause, fetched_bytes=0), uow)
    return await uow.entries.get(entry.id)


async def _answer(entry: Entry, uow: Unit) -> None:
    """Say at once that what is asked for is there, so that whoever waits for the answer gets one."""
    site = await uow.sites.get(entry.site)
    if site is not None:
        announce.ready(entry, site.tree(entry.key), 0.0, uow=uow)


async def _first(cmd: RequestCache, *, uow: Unit, clock: Clock) -> Entry:
    entry = Entry(
        site=cmd.site,
        project=cmd.project,
        commit=cmd.commit,
        dataset=cmd.dataset,
        version=cmd.version,
        mode=cmd.selection.mode,
        paths=cmd.selection.paths,
        reason="waiting for a worker",
        asked=cmd.asked,
        cause=cmd.cause,
        created_at=clock.now(),
    )
    if not await uow.entries.add(entry):
        raise Conflict(f"cache entry {entry.id} appeared meanwhile")
    return entry
