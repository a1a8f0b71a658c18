"""The composition root: settings become one running cache manager."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import httpx

from cache_manager.adapters.bus_telemetry import BusTelemetry
from cache_manager.adapters.catalog_http import HttpCatalog
from cache_manager.adapters.grant_batches import GrantBatches
from cache_manager.adapters.lake import DatasetLake
from cache_manager.adapters.mongo_entries import MongoEntries
from cache_manager.adapters.mongo_prefetch import MongoPrefetches
from cache_manager.adapters.mongo_quotas import MongoQuotas
from cache_manager.adapters.mongo_rules import MongoRules
from cache_manager.adapters.mongo_sites import MongoSites
from cache_manager.adapters.mongo_unit import ENTRIES, MIGRATIONS, PREFETCH, QUOTAS, RETENTION, SITES, CacheUnitOfWork
from cache_manager.adapters.site_folders import SiteFolders
from cache_manager.application.cache import Cache
from cache_manager.application.housekeeping import Housekeeper
from cache_manager.application.ports import Catalog, Telemetry, Unit
from cache_manager.application.reconcile import Attendance
from cache_manager.application.scrubbing import Scrubber
from cache_manager.application.sites import DefineSite, define_site
from cache_manager.application.world import Limits, World
from cache_manager.domain.plan import Patience
from cache_manager.entrypoints.bus import subscriptions
from cache_manager.entrypoints.http import fsck_router, router
from cache_manager.entrypoints.http_prefetch import router as prefetch_router
from cache_manager.entrypoints.http_sites import router as sites_router
from cache_manager.entrypoints.lease_door import LeaseDoor
from cache_manager.settings import CacheManagerSettings
from millrace.auth import Authenticator, IntrospectingAuthenticator
from millrace.bus import Bus
from millrace.clock import Clock, SystemClock, new_id
from millrace.documents import Transactor, connect
from millrace.documents.client import Client
from millrace.documents.migrations import migrate
from millrace.documents.translating import translating
from millrace.http import create_app
from millrace.leases import Leadership, LeaseStore, ProcessIdentity
from millrace.objects import ObjectStore
from millrace.objects.lake import open_lake
from millrace.outbox import Relay
from millrace.runtime import Kick, Reconciler, Runtime
from millrace.sealing import SealedStore, catalog_keys
from millrace.service import relay_events
from millrace.settings import SharedSettings

SERVICE = "cache-manager"
SOURCE = "/millrace/cache-manager"


def limits(settings: CacheManagerSettings) -> Limits:
    """Return the times that the settings ask for."""
    patience = Patience(
        grace=settings.grace_seconds,
        first_retry=settings.first_retry_seconds,
        last_retry=settings.last_retry_seconds,
    )
    return Limits(
        patience=patience,
        lease=settings.lease_seconds,
        age_out=settings.age_out_seconds,
        age_step=settings.age_step_seconds,
        sweep=settings.sweep_seconds,
        high_mark=settings.high_mark,
        probe=settings.probe_seconds,
        scrub=settings.scrub_seconds,
        sample=settings.sample_seconds,
        scrub_rate=settings.scrub_bytes_per_second,
        low_mark=min(settings.low_mark, settings.high_mark),
    )


@dataclass
class Engine:
    """The part that works: everything but bus and HTTP."""

    settings: CacheManagerSettings
    world: World
    folders: SiteFolders
    attendance: Attendance
    reconciler: Reconciler
    housekeeping: Leadership
    scrubbing: Leadership
    transactor: Transactor[CacheUnitOfWork]
    batches: GrantBatches

    async def prepare(self) -> None:
        """Migrate, and define the sites that the settings name."""
        await migrate(self.transactor.database, MIGRATIONS, clock=self.world.clock)
        known = {site.id: site for site in await self.world.sites.all()}
        for wanted in self.settings.sites:
            cmd = DefineSite(
                wanted.site,
                wanted.path,
                wanted.capacity_bytes,
                wanted.capacity_inodes,
                origin="settings",
                age_out=wanted.age_out_seconds,
            )
            there = known.get(wanted.site)
            same = (
                there is not None
                and there.prepared
                and (there.path, there.capacity.bytes, there.capacity.inodes, there.age_out)
                == (cmd.path, cmd.capacity_bytes, cmd.capacity_inodes, cmd.age_out)
            )
            if not same:
                await self._define(cmd)

    async def _define(self, cmd: DefineSite) -> None:
        async def work(uow: Unit) -> None:
            await define_site(cmd, uow=uow, clock=self.world.clock)

        await self.transactor(work)

    async def close(self) -> None:
        """Stop all work."""
        await self.attendance.close()
        await self.batches.close()
        self.folders.close()


def assemble(
    settings: CacheManagerSettings,
    client: Client,
    store: ObjectStore,
    *,
    catalog: Catalog,
    telemetry: Telemetry,
    clock: Clock,
    holder: str | None = None,
) -> Engine:
    """Build the working part; nothing runs yet."""
    database = client[settings.mongo_database]
    transactor = Transactor(client, settings.mongo_database, CacheUnitOfWork, clock=clock, source=SOURCE)
    leases = LeaseStore(database, clock=clock, ttl=settings.takeover_seconds, identity=ProcessIdentity())
    folders = SiteFolders()
    kicks = Kick()
    entries = translating(MongoEntries(database[ENTRIES]))
    batches = GrantBatches(entries.grant_many)
    world = World(
        transact=transactor,
        sites=translating(MongoSites(database[SITES])),
        entries=entries,
        quotas=translating(MongoQuotas(database[QUOTAS])),
        rules=translating(MongoRules(database[RETENTION])),
        prefetches=translating(MongoPrefetches(database[PREFETCH])),
        folders=folders.get,
        lake=DatasetLake(store, transfers=settings.transfers),
        catalog=catalog,
        telemetry=telemetry,
        leases=leases,
        holder=holder or f"{platform.node()}:{os.getpid()}:{new_id()}",
        clock=clock,
        limits=limits(settings),
        grant=batches.grant,
        kick=kicks,
    )
    attendance = Attendance(world, fills=settings.fills)

    async def step() -> None:
        await folders.refresh(world.sites)
        await attendance.step()

    reconciler = Reconciler("entries", step, interval=settings.poll_seconds, clock=clock)
    kicks.call = reconciler.kick
    housekeeping = Leadership(leases, "housekeeping", world.holder, clock=clock)
    scrubbing = Leadership(leases, "scrubbing", world.holder, clock=clock)
    return Engine(settings, world, folders, attendance, reconciler, housekeeping, scrubbing, transactor, batches)


def build(
    settings: CacheManagerSettings,
    shared: SharedSettings,
    *,
    authenticator: Authenticator | None = None,
    clock: Clock | None = None,
) -> LeaseDoor:
    """Return the app; its lifespan runs everything, and nothing connects before."""
    runtime = Runtime(SERVICE, clock=clock or SystemClock())
    store = open_lake(shared)
    client = connect(settings.mongo_uri.get_secret_value(), app_name=SERVICE)
    bus = Bus(service=SERVICE, servers=shared.nats_url, seed_file=settings.nats_seed_file, clock=runtime.clock)
    http = httpx.AsyncClient(base_url=shared.catalog_url, follow_redirects=False, trust_env=False)
    token = settings.token.get_secret_value()
    engine = assemble(
        settings,
        client,
        SealedStore(store, catalog_keys(http, token=token, clock=runtime.clock)),
        catalog=HttpCatalog(http, token=token),
        telemetry=BusTelemetry(bus, runtime.clock),
        clock=runtime.clock,
    )
    relay = Relay(client, settings.mongo_database, bus.publisher, runtime.clock)
    engine.transactor.on_emit = relay.kick
    bus.subscribe(subscriptions(runtime.clock, engine.world.kick, settings.prefetch), engine.transactor)
    for close in (client.close, store.close, http.aclose, engine.close):
        runtime.on_close(close)
    _run(runtime, engine, bus, relay)
    asked = authenticator or IntrospectingAuthenticator(http, own_token=token, clock=runtime.clock)
    return web(runtime, asked, Cache(engine.world, fixed=frozenset(site.site for site in settings.sites)))


def web(runtime: Runtime, authenticator: Authenticator, cache: Cache) -> LeaseDoor:
    """Return the HTTP side of a cache manager: the app behind its door."""
    app = create_app(
        "Millrace cache manager",
        runtime=runtime,
        authenticator=authenticator,
        routers=[router, sites_router, prefetch_router, fsck_router],
        docs=True,
    )
    app.state.cache = cache
    return LeaseDoor(app, cache.world)


def _run(runtime: Runtime, engine: Engine, bus: Bus, relay: Relay) -> None:
    """Let `runtime` run the parts: the database first, then bus, relay, reconciler and chores."""
    prepared = runtime.prepare("database", engine.prepare, waits="waits for MongoDB")
    runtime.add_reconciler(engine.reconciler, after=prepared)

    async def keep_house() -> None:
        await engine.folders.refresh(engine.world.sites)
        await engine.housekeeping.run(Housekeeper(engine.world).run)

    async def scrub() -> None:
        await engine.folders.refresh(engine.world.sites)
        await engine.scrubbing.run(Scrubber(engine.world).run)

    async def sites() -> str | None:
        return "; ".join(f"{site}: {why}" for site, why in engine.folders.problems.items()) or None

    runtime.add_task("housekeeping", keep_house, after=prepared)
    runtime.add_task("scrubbing", scrub, after=prepared)
    runtime.add_check("sites", sites)
    relay_events(runtime, bus, relay, after=prepared)
