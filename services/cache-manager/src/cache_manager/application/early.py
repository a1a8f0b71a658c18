"""Early start: what a run that reads a copy while it is filled asks and hears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cache_manager.application import metrics, views
from cache_manager.application.leases import own, where_it_lies
from cache_manager.application.world import World
from cache_manager.domain.entry import Entry
from cache_manager.domain.names import LeaseName
from cache_manager.domain.states import FILLING
from cache_manager.errors import LeaseLost, SiteUnavailable


@dataclass(frozen=True)
class WantPacks:
    """One of a run's readers needs these packs and chunks next, in their order, and waited for so many seconds."""

    lease: str
    project: str
    reader: int
    names: Sequence[str]
    waited: float = 0.0


async def want_packs(cmd: WantPacks, *, world: World) -> dict[str, Any]:
    """Let what a reader needs be fetched next, and say how the copy stands.

    The wish is a part of the lease, and ends with it. Whoever fills reads it at its next heartbeat. Once the copy is
    complete there is nothing to wish for.

    Raises:
        LeaseLost: the lease is gone; says why, if the fill failed.
        SiteUnavailable: this process does not know the site yet.
    """
    name = own(cmd.lease, cmd.project)
    entry = await world.entries.get(name.entry)
    if entry is not None and entry.state in FILLING:
        entry = await world.entries.want(name, cmd.reader, cmd.names)
    shown = await _shown(name, entry, world)
    metrics.WAITED.labels(shown["site"]).inc(cmd.waited)
    return shown


async def look_at_lease(lease: str, project: str, *, world: World) -> dict[str, Any]:
    """Return where a lease's copy lies now, and how it stands. It renews nothing.

    Raises:
        LeaseLost, SiteUnavailable: as for `want_packs`.
    """
    name = own(lease, project)
    return await _shown(name, await world.entries.get(name.entry), world)


async def _shown(name: LeaseName, entry: Entry | None, world: World) -> dict[str, Any]:
    if entry is None or (held := entry.leases.get(name.run)) is None or held.token != name.token:
        raise await _gone(name, world)
    folder = world.folders(entry.site)
    if folder is None:
        raise SiteUnavailable(f"site {entry.site} is not opened by this process yet")
    return {
        "lease": name.id,
        "entry": entry.id,
        "site": entry.site,
        **where_it_lies(entry, folder),
        "reason": views.reason(entry),
        "progress": round(entry.progress, 4),
    }


async def _gone(name: LeaseName, world: World) -> LeaseLost:
    entry = await world.entries.get(name.entry)
    told = f": {entry.id} is {entry.state.value}: {entry.reason}" if entry is not None and entry.reason else ""
    return LeaseLost(f"the lease is gone{told}", lease=name.id)
