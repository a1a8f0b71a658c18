"""Room before bytes: a fill is charged against its site and its project's quotas, or waits and says for what."""

from __future__ import annotations

from cache_manager.application.lake_ports import VersionFacts
from cache_manager.application.ports import Unit
from cache_manager.application.pressing import competing, press
from cache_manager.application.world import World
from cache_manager.domain.charge import EVERY_SITE, Charge, Quota, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move, State
from cache_manager.errors import NoRoomError, SiteDraining, SiteNotFound
from millrace.errors import TooLarge
from millrace.leases.ports import Lease

OWN_INODES = 3
"""The version's folder, its marker, and a project folder."""

SHELF_INODES = 3
"""The folders in which packs are shown while others are fetched; the files there are links."""


def needed(facts: VersionFacts) -> Charge:
    """Return what a version is charged with."""
    own = OWN_INODES + (SHELF_INODES if facts.selection.mode == "packs" else 0)
    return Charge(facts.stored_bytes, facts.stored_files + facts.folders + own)


async def reserve(entry: Entry, facts: VersionFacts, lease: Lease, world: World) -> Entry | None:
    """Charge the version's size and return the entry, FETCHING; None if it waits for room.

    Raises:
        TooLarge: the site, or the project's quota, could not hold it if it were empty.
        SiteDraining: nothing new comes to the site.
    """
    need = needed(facts)
    site = await _site(entry, world)
    if site.draining:
        raise SiteDraining(f"site {site.id} is being drained", hint="name another site, or end the draining")
    await _check_limits(entry, need, site, world)

    async def work(uow: Unit) -> Entry:
        await uow.guard(lease)
        await _charge(entry, need, uow)
        return await uow.entries.move(
            entry,
            Move.RESERVE,
            charge=need,
            files=facts.files,
            bytes=facts.bytes,
            tree_root=facts.tree_root,
            stored=Charge(facts.stored_bytes, facts.stored_files),
            fetched_bytes=0,
            progress=0.0,
            reason="fetching",
        )

    try:
        return await world.transact(work)
    except NoRoomError as refused:
        await _wait(entry, need, refused.quota, world)
        return None


async def give_back(entry: Entry, uow: Unit) -> None:
    """Take the entry's promise back, at its site and in its project's quotas."""
    if entry.charge:
        await uow.sites.release(entry.site, entry.charge)
        await uow.quotas.charge(entry.site, entry.project, Charge() - entry.charge)


async def _check_limits(entry: Entry, need: Charge, site: Site, world: World) -> None:
    if not need.fits(site.capacity):
        raise TooLarge(f"{need.bytes} bytes in {need.inodes} inodes never fit into site {site.id}")
    for quota in await quotas_of(entry, world):
        if quota.limit is not None and not need.fits(quota.limit):
            raise TooLarge(
                f"{need.bytes} bytes in {need.inodes} inodes never fit into {named(quota)}",
                hint="ask an admin for a larger quota",
            )


async def quotas_of(entry: Entry, world: World) -> list[Quota]:
    """Return the quotas that the entry counts against."""
    return [quota for quota in await world.quotas.all(entry.project) if quota.site in {entry.site, EVERY_SITE}]


def named(quota: Quota) -> str:
    """Return a quota in words."""
    where = "all sites" if quota.site == EVERY_SITE else f"site {quota.site}"
    return f"the quota of project {quota.project} at {where}"


async def _charge(entry: Entry, need: Charge, uow: Unit) -> None:
    """Charge what goes beyond the entry's present charge (a copy in the trash has one).

    Raises:
        NoRoomError: the site or a quota has no room; the transaction is given up.
    """
    more = need - entry.charge
    if not more:
        return
    if not await uow.sites.charge(entry.site, more):
        raise NoRoomError("the site is full")
    full = await uow.quotas.charge(entry.site, entry.project, more)
    if full is not None:
        raise NoRoomError("the quota is full", quota=full)


async def _wait(entry: Entry, need: Charge, full: Quota | None, world: World) -> None:
    leaving = await _leaving(entry, full, world)
    free = await _free(entry, full, world)  # read last: what was deleted meanwhile counts twice, nothing goes in vain
    missing = need - free
    going = await press(entry, missing - leaving, full, world)
    where = f"; {named(full)} is full" if full is not None else ""
    reason = f"needs {need.bytes} bytes and {need.inodes} inodes; {free.bytes} and {free.inodes} are free{where}"
    reason += f"; {going} unused entries are being evicted" if going else ""
    if not going and not missing.fits(leaving):
        reason += "; everything else there is in use: clear, unpin or release an entry, or enlarge "
        reason += "the quota" if full is not None else "the site"
    if (entry.state, entry.reason) != (State.WAIT_SPACE, reason):
        await world.entries.move(entry, Move.WAIT, reason=reason)


async def _free(entry: Entry, full: Quota | None, world: World) -> Charge:
    if full is None:
        return (await _site(entry, world)).free
    quota = next((it for it in await quotas_of(entry, world) if it.site == full.site), full)
    return quota.free or (await _site(entry, world)).free


async def _leaving(entry: Entry, full: Quota | None, world: World) -> Charge:
    """Return the room that entries on their way out will free, where it is missing."""
    where = {"state": (State.EVICTING, State.TRASHED), **competing(entry, full)}
    going = await world.entries.find(where, limit=100_000)
    return sum((other.charge for other in going if other.id != entry.id), Charge())


async def _site(entry: Entry, world: World) -> Site:
    site = await world.sites.get(entry.site)
    if site is None:
        raise SiteNotFound(f"no cache site {entry.site}")
    return site
