"""Room before bytes: a fill is charged against its site before it starts, or waits and says for what."""

from __future__ import annotations

from cache_manager.application.ports import Unit, VersionFacts
from cache_manager.application.world import World
from cache_manager.domain.charge import Charge, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.states import Move, State
from cache_manager.errors import SiteNotFound
from millrace.errors import TooLarge
from millrace.leases.ports import Lease

OWN_INODES = 3
"""The version's folder, its marker, and a project folder."""


async def reserve(entry: Entry, facts: VersionFacts, lease: Lease, world: World) -> Entry | None:
    """Charge the version's size on its site and return the entry, FETCHING; None if it waits for room.

    Raises:
        TooLarge: the site could not hold it if it were empty.
    """
    need = Charge(facts.bytes, facts.files + facts.folders + OWN_INODES)
    site = await _site(entry, world)
    if not need.fits(site.capacity):
        raise TooLarge(f"{facts.bytes} bytes in {facts.files} files never fit into site {site.id}")

    async def work(uow: Unit) -> Entry | None:
        await uow.guard(lease)
        if not await _charge(entry, need, uow):
            return None
        return await uow.entries.move(
            entry,
            Move.RESERVE,
            charge=need,
            files=facts.files,
            bytes=facts.bytes,
            tree_root=facts.tree_root,
            fetched_bytes=0,
            progress=0.0,
            reason="fetching",
        )

    reserved = await world.transact(work)
    if reserved is None:
        await _wait(entry, need, world)
    return reserved


async def _charge(entry: Entry, need: Charge, uow: Unit) -> bool:
    """Charge what goes beyond the entry's present charge (a copy in the trash has one)."""
    if need == entry.charge:
        return True
    if entry.charge:
        await uow.sites.release(entry.site, entry.charge)
    return await uow.sites.charge(entry.site, need)


async def _wait(entry: Entry, need: Charge, world: World) -> None:
    leaving = await _leaving(entry, world)
    site = await _site(entry, world)  # read last: what was deleted meanwhile counts twice, and nothing goes needlessly
    missing = need - site.free
    going = await _press(entry, missing - leaving, world)
    reason = f"needs {need.bytes} bytes and {need.inodes} inodes; {site.free.bytes} and {site.free.inodes} are free"
    reason += f"; {going} unused entries are being evicted" if going else ""
    if not going and not (missing.bytes <= leaving.bytes and missing.inodes <= leaving.inodes):
        reason += "; everything else there is in use: clear or release an entry, or enlarge the site"
    if (entry.state, entry.reason) != (State.WAIT_SPACE, reason):
        await world.entries.move(entry, Move.WAIT, reason=reason)


async def _leaving(entry: Entry, world: World) -> Charge:
    """Return the room that entries on their way out will free."""
    going = await world.entries.find({"site": entry.site, "state": (State.EVICTING, State.TRASHED)})
    return sum((other.charge for other in going if other.id != entry.id), Charge())


async def _press(entry: Entry, missing: Charge, world: World) -> int:
    """Evict the entries that were unused for longest, as few as make the room; none if all together would not."""
    if missing.bytes <= 0 and missing.inodes <= 0:
        return 0
    ready = await world.entries.find({"site": entry.site, "state": State.READY})
    idle = sorted(
        (other for other in ready if not other.leases), key=lambda other: (other.uses == 0, -other.idle_seconds)
    )
    victims: list[Entry] = []
    freed = Charge()
    for other in idle:
        if missing.fits(freed):
            break
        victims.append(other)
        freed += other.charge
    if not missing.fits(freed):
        return 0
    gone = [await world.entries.evict(victim, reason="pressure", only_if_wished=victim.desired) for victim in victims]
    world.kick()
    return sum(1 for victim in gone if victim is not None)


async def _site(entry: Entry, world: World) -> Site:
    site = await world.sites.get(entry.site)
    if site is None:
        raise SiteNotFound(f"no cache site {entry.site}")
    return site
