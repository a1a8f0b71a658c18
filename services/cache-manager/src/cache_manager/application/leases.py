"""Leases: a run gets a path only with one, and nothing is evicted under it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import structlog

from cache_manager.application import metrics
from cache_manager.application.ports import Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.application.site_ports import SiteFolder
from cache_manager.application.world import World
from cache_manager.domain.entry import Asked, Cause, Entry, Grant
from cache_manager.domain.names import EntryKey, LeaseName, parse_lease
from cache_manager.domain.selection import WHOLE, Selection
from cache_manager.domain.states import LEASED, PUBLISHED, State
from cache_manager.errors import EntryNotReady, LeaseLost, SiteNotFound
from millrace.clock import new_id
from millrace.errors import Invalid

log = structlog.get_logger(__name__)

SEEN_SECONDS = 1.0
"""A site that was there a second ago is there: a run that finds it gone meanwhile fails, as it would a moment later."""


@dataclass(frozen=True)
class AcquireLease:
    """A run needs the path of a version, or of what is selected of it, at a site.

    `early`: it begins to read packs while others are still being fetched.
    """

    run: str
    site: str
    project: str
    dataset: str
    commit: str
    cause: Cause = field(default_factory=Cause)
    selection: Selection = WHOLE
    early: bool = False

    @property
    def key(self) -> EntryKey:
        """Return the entry that is meant."""
        return EntryKey(self.site, self.project, self.commit, self.selection.variant)


async def acquire_lease(cmd: AcquireLease, *, world: World) -> dict[str, Any]:
    """Grant a run the path of an entry that is ready, or readable early. Repeating it replaces the run's lease.

    What is not there, and not asked for, is asked for then, so that no run waits for what nobody will bring.

    Raises:
        EntryNotReady: it is not ready; says in which state it is, and why.
        Invalid: files cannot be read early.
        SiteNotFound, NotFound: no such site, dataset or commit.
        SiteUnavailable: the site's directory is away.
    """
    key, run = cmd.key, cmd.run
    if cmd.early and cmd.selection.mode != "packs":
        raise Invalid("only packs can be read while they are fetched", hint="ask for mode `packs`, or without `early`")
    if world.folders(cmd.site) is None and await world.sites.get(cmd.site) is None:
        raise SiteNotFound(f"no cache site {cmd.site}", hint=f"PUT /v1/cache/sites/{cmd.site} makes it")
    folder = await world.folder(cmd.site, within=SEEN_SECONDS)
    granted = await world.grant(key.id, run, cmd.early)
    if granted is None:
        raise _not_ready(key, await _ask_for(cmd, world))
    entry, grant = granted
    if grant.fresh and grant.hit:
        metrics.HITS.labels(key.site).inc()
        metrics.SAVED.labels(key.site).inc(entry.bytes)
    elif grant.fresh:
        metrics.MISSES.labels(key.site).inc()
    if grant.fresh and entry.state is not State.READY:
        metrics.EARLY.labels(key.site).inc()
    lease = LeaseName(key.id, run, grant.token)
    return {
        "lease": lease.id,
        **where_it_lies(entry, folder),
        "token": grant.token,
        "hit": grant.hit,
        "entry": entry.id,
        "dataset": entry.dataset,
        "commit": entry.commit,
        "files": entry.files,
        "bytes": entry.bytes,
        "tree_root": entry.tree_root,
        "mode": entry.mode,
        "seconds": world.limits.lease,
    }


def where_it_lies(entry: Entry, folder: SiteFolder) -> dict[str, Any]:
    """Return an entry's state and final path, and where what has landed is shown if it is still being filled."""
    early = None if entry.state in PUBLISHED else str(folder.shelf(entry.key))
    return {"path": str(folder.path(entry.key)), "early": early, "state": entry.state.value}


async def _ask_for(cmd: AcquireLease, world: World) -> Entry | None:
    entry = await world.entries.get(cmd.key.id)
    if entry is not None and entry.desired == "present":
        return entry
    metrics.MISSES.labels(cmd.site).inc()
    known = await world.catalog.version(cmd.project, cmd.dataset, cmd.commit)
    wish = RequestCache(
        site=cmd.site,
        project=cmd.project,
        dataset=known.dataset,
        version=known.version,
        commit=known.commit,
        desired="present",
        asked=Asked(id=str(new_id())),
        cause=cmd.cause,
        selection=cmd.selection,
    )

    async def work(uow: Unit) -> Entry | None:
        return await request_cache(wish, uow=uow, clock=world.clock)

    asked = await world.transact(work)
    world.kick()
    return asked


def _not_ready(key: EntryKey, entry: Entry | None) -> EntryNotReady:
    state = "ABSENT" if entry is None else entry.state.value
    reason = "nobody asked for it at this site" if entry is None else entry.reason or f"it is {state}"
    return EntryNotReady(
        f"{key.commit[:12]} is not ready at site {key.site}: {reason}",
        entry=key.id,
        state=state,
        desired="absent" if entry is None else entry.desired,
        reason=reason,
        progress=0.0 if entry is None else round(entry.progress, 4),
    )


async def renew_lease(lease: str, project: str, *, world: World) -> dict[str, Any]:
    """Raise a lease's beat.

    Raises:
        LeaseLost: it was released, expired, or replaced by a later one of the same run.
    """
    name = own(lease, project)
    if not await world.entries.renew(name.entry, name.run, name.token):
        raise LeaseLost("the lease is gone; ask for another", lease=lease)
    return {"lease": lease, "token": name.token, "seconds": world.limits.lease}


async def release_lease(lease: str, project: str, *, world: World) -> None:
    """End a lease; one that is gone already is no error."""
    name = own(lease, project)
    if await world.entries.end(name.entry, name.run, Grant(name.token, -1)):
        world.kick()


async def expire_leases(world: World) -> None:
    """End the leases whose beat this process has seen unchanged for longer than a lease lasts."""
    now = world.clock.monotonic()
    leased = await world.entries.find({"leased": True, "state": tuple(LEASED)})
    grants = [(entry, run, grant) for entry in leased for run, grant in entry.leases.items()]
    world.grants.keep({(entry.id, run) for entry, run, _ in grants})
    for entry, run, grant in grants:
        silence = world.grants.silence((entry.id, run), (grant.token, grant.beat), now)
        if silence >= world.limits.lease and await world.entries.end(entry.id, run, grant):
            log.warning("lease expired", entry=entry.id, run=run, silent_seconds=round(silence, 1))
            world.kick()


def own(lease: str, project: str) -> LeaseName:
    """Return the parts of a lease of a project.

    Raises:
        LeaseLost: the project has none of this name.
    """
    name = parse_lease(lease)
    if name.entry.split(".")[1] != project:
        raise LeaseLost("no such lease", lease=lease)
    return name
