"""The chores that one process does for all: sweeping the sites, and letting unused entries go."""

from __future__ import annotations

import structlog

from cache_manager.application import metrics
from cache_manager.application.prefetching import run_schedules
from cache_manager.application.pressing import relieve
from cache_manager.application.sweep import Sweep
from cache_manager.application.world import World
from cache_manager.domain.charge import Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.links import DEFAULTS
from cache_manager.domain.retention import Retention
from cache_manager.domain.score import decay
from cache_manager.domain.states import PUBLISHED, State
from millrace.errors import MillraceError
from millrace.leases.ports import Lease

log = structlog.get_logger(__name__)

TICK_SECONDS = 5.0


class Housekeeper:
    """Runs under a leadership; see `run`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sweep = Sweep(world)
        self._swept = self._probed = float("-inf")
        self._aged = world.clock.monotonic()

    async def run(self, _lease: Lease) -> None:
        """Sweep at once and every `sweep` seconds, age entries every `age_step` seconds, set gauges, for ever."""
        self._aged = self._world.clock.monotonic()
        while True:
            try:
                await self._chores()
            except (MillraceError, OSError) as error:
                log.warning("chores wait", reason=str(error))
            await self._world.clock.sleep(min(TICK_SECONDS, self._world.limits.age_step, self._world.limits.sweep))

    async def _chores(self) -> None:
        world, now = self._world, self._world.clock.monotonic()
        if now - self._swept >= world.limits.sweep:
            await self._sweep.all()
            self._swept = now
        if now - self._aged >= world.limits.age_step:
            await age(world, now - self._aged)
            self._aged = now
        for site in await world.sites.all():
            await (drain(site, world) if site.draining else relieve(site, world))
        await run_schedules(world)
        if now - self._probed >= world.limits.probe:
            self._probed = now
            await probe_sites(world)
        await observe(world)


async def age(world: World, seconds: float) -> None:
    """Let uses count less and idle time grow, and evict what was unused for longer than its rule allows.

    Only time that was seen to pass counts: a service that was down, or a clock that jumped, makes nothing old.
    """
    await world.entries.age(seconds, decay(seconds))
    retention = Retention(await world.rules.all(), await world.sites.all(), world.limits.age_out)
    idle = {"state": State.READY, "leased": False, "pinned": False}
    for entry in await world.entries.find(idle, limit=100_000):
        limit = retention.limit(entry)
        if limit.seconds is not None and entry.idle_seconds >= limit.seconds:
            gone = await world.entries.evict(entry, reason="age", only_if_wished=entry.desired)
            if gone is not None:
                log.info("unused for too long", entry=entry.id, idle_seconds=round(entry.idle_seconds))
                world.kick()


async def drain(site: Site, world: World) -> None:
    """Let everything leave a site that nobody holds, and wish away what has not come yet."""
    for entry in await world.entries.find({"site": site.id, "state": State.READY}, limit=100_000):
        if not entry.held and await world.entries.evict(entry, reason="cleared", only_if_wished=entry.desired):
            log.info("leaves a site that is drained", entry=entry.id)
            world.kick()


async def probe_sites(world: World) -> None:
    """Measure how near each site is to this process; compute nodes send their own measurements."""
    for site in await world.sites.all():
        folder = world.folders(site.id)
        found = None if folder is None or await folder.problem() is not None else await folder.probe()
        if found is not None:
            await world.sites.sample(site.id, "own_read", found.read_bytes_per_second)
            await world.sites.sample(site.id, "own_open", found.open_seconds)


async def observe(world: World) -> None:
    """Set the gauges of room, entries and leases."""
    for site in await world.sites.all():
        _show(site, await world.entries.find({"site": site.id}, limit=100_000))


def _show(site: Site, entries: list[Entry]) -> None:
    used = sum(entry.charge.bytes for entry in entries if entry.state in PUBLISHED)
    amounts = {
        "used": used,
        "reserved": max(0, site.charged.bytes - used),
        "free": site.free.bytes,
        "capacity": site.capacity.bytes,
    }
    metrics.announce(site.id)
    for name, default in DEFAULTS.items():
        metrics.LINKS.labels(site.id, name).set(getattr(site.links, name).best(default))
    for kind, amount in amounts.items():
        metrics.BYTES.labels(site.id, kind).set(amount)
    metrics.INODES.labels(site.id, "charged").set(site.charged.inodes)
    metrics.INODES.labels(site.id, "free").set(site.free.inodes)
    metrics.INODES.labels(site.id, "capacity").set(site.capacity.inodes)
    metrics.LEASES.labels(site.id).set(sum(len(entry.leases) for entry in entries))
    metrics.PINS.labels(site.id).set(sum(len(entry.pins) for entry in entries))
    for state in State:
        metrics.ENTRIES.labels(site.id, state.value).set(sum(entry.state is state for entry in entries))
