"""The composition root: settings become one running service."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from drift_monitor.adapters.catalog import CatalogRegistry
from drift_monitor.adapters.lake import LakeBaselines, LakeVersions
from drift_monitor.adapters.mongo import Kept, MonitorMongoUnitOfWork, ensure_monitor_indexes
from drift_monitor.adapters.png import PngPainter
from drift_monitor.adapters.tap import BusTap
from drift_monitor.application.answering import Landing
from drift_monitor.application.asking import Asking, AskingConfig
from drift_monitor.application.closing import Closing, ClosingConfig
from drift_monitor.application.counting import Counting, CountingConfig
from drift_monitor.application.samples import Samples
from drift_monitor.application.watching import WatchBook
from drift_monitor.domain.evaluation import Rules
from drift_monitor.domain.statistics import AlphaSpending
from drift_monitor.entrypoints import jobs
from drift_monitor.entrypoints.bus import subscriptions
from drift_monitor.entrypoints.http import drift_router, fsck_router, labels_router
from drift_monitor.settings import DriftMonitorSettings
from millrace.auth import Authenticator, IntrospectingAuthenticator
from millrace.bus import Bus
from millrace.clock import Clock, SystemClock, new_id
from millrace.documents import Transactor, connect
from millrace.documents.migrations import Migration, migrate
from millrace.http import create_app
from millrace.leases import Leadership, LeaseStore, ProcessIdentity
from millrace.objects.lake import open_lake
from millrace.outbox import Relay
from millrace.runtime import Runtime
from millrace.sealing import SealedStore, catalog_keys
from millrace.service import relay_events
from millrace.settings import SharedSettings

SERVICE = "drift-monitor"
MIGRATIONS = [Migration(1, "indexes", ensure_monitor_indexes)]


@dataclass(frozen=True)
class Monitor:
    """The service, built; `app` runs everything in its lifespan."""

    app: FastAPI
    runtime: Runtime
    bus: Bus
    kept: Kept
    transact: Transactor[MonitorMongoUnitOfWork]
    counting: Counting


def build(
    settings: DriftMonitorSettings,
    shared: SharedSettings,
    *,
    authenticator: Authenticator | None = None,
    clock: Clock | None = None,
) -> Monitor:
    """Return the service of these settings; nothing connects before its lifespan begins."""
    runtime = Runtime(SERVICE, clock=clock or SystemClock())
    http = httpx.AsyncClient(base_url=shared.catalog_url, trust_env=False)
    parts = _Parts(settings, shared, runtime, http)
    parts.run()
    who = authenticator or IntrospectingAuthenticator(
        http, own_token=settings.token.get_secret_value(), clock=runtime.clock
    )
    routers = [
        drift_router(parts.kept),
        labels_router(parts.transact, parts.kept, parts.samples),
        fsck_router(parts.transact, parts.store),
    ]
    app = create_app("Millrace drift monitor", runtime=runtime, authenticator=who, routers=routers, docs=True)
    return Monitor(app, runtime, parts.bus, parts.kept, parts.transact, parts.counting)


class _Parts:
    """Everything that watches, counts and asks."""

    def __init__(
        self, settings: DriftMonitorSettings, shared: SharedSettings, runtime: Runtime, http: httpx.AsyncClient
    ) -> None:
        clock = runtime.clock
        self.settings, self.shared, self.runtime = settings, shared, runtime
        self.client = connect(settings.mongo_uri.get_secret_value(), app_name="millrace-drift-monitor")
        self.database = self.client[settings.mongo_database]
        self.kept = Kept(self.database, None, clock)
        self.bus = Bus(service=SERVICE, servers=shared.nats_url, seed_file=settings.nats_seed_file, clock=clock)
        self.relay = Relay(self.client, self.database, self.bus.publisher, clock)
        self.transact: Transactor[MonitorMongoUnitOfWork] = Transactor(
            self.client,
            settings.mongo_database,
            MonitorMongoUnitOfWork,
            clock=clock,
            source=f"/millrace/{SERVICE}",
            on_emit=self.relay.kick,
        )
        self.store = open_lake(shared)
        self.samples = Samples(self.store)
        self.baselines = LakeBaselines(self.store)
        token = settings.token.get_secret_value() if settings.token_file else ""
        self.versions = LakeVersions(SealedStore(self.store, catalog_keys(http, token=token, clock=clock)))
        registry = CatalogRegistry(http, token)
        self.book = WatchBook(self.transact, self.kept, registry)
        self.watches = jobs.watches(self.book, clock)
        self.landing = jobs.landing(self._lander(), clock)
        self.asking = jobs.asking(self._asker(), clock)
        self.tap = BusTap(self.bus, clock, pace=settings.pace)
        self.counting = self._counting()
        runtime.on_close(http.aclose)
        runtime.on_close(self.client.close)
        runtime.on_close(self.store.close)

    def _lander(self) -> Landing:
        place = f"{self.shared.lake_scheme}://{self.shared.lake_bucket}"
        return Landing(self.transact, self.kept, samples=self.samples, objects=self.store, place=place)

    def _asker(self) -> Asking:
        settings = self.settings
        return Asking(
            self.transact,
            self.kept,
            baselines=self.baselines,
            versions=self.versions,
            objects=self.store,
            config=AskingConfig(
                size=settings.queue_size,
                least=min(settings.queue_least, settings.queue_size),
                gather_windows=settings.gather_windows,
                cooldown_windows=settings.cooldown_windows,
            ),
        )

    def _counting(self) -> Counting:
        settings = self.settings
        closing = Closing(
            self.transact,
            self.kept,
            self.baselines,
            self.samples,
            ClosingConfig(
                rules=Rules(min_effect=settings.min_effect, min_rows=min(settings.min_rows, settings.window_rows)),
                spending=AlphaSpending(settings.false_alarms_per_month, settings.windows_per_month),
                quiet_windows=settings.quiet_windows,
            ),
            on_gathered=self.asking.kick,
        )
        return Counting(
            self.transact,
            self.kept,
            watches=self.book,
            baselines=self.baselines,
            painter=PngPainter(),
            samples=self.samples,
            closing=closing,
            config=CountingConfig(settings.window_rows),
            clock=self.runtime.clock,
        )

    def run(self) -> None:
        """Add the background work to the runtime."""
        runtime, clock = self.runtime, self.runtime.clock
        self.bus.subscribe(subscriptions(self.watches.kick), self.transact)
        self.transact.on_emit = self._emitted
        prepared = runtime.prepare("database", self._migrate, waits="waits for MongoDB")
        for reconciler in (self.watches, self.asking, self.landing, jobs.metering(self.kept, clock)):
            runtime.add_reconciler(reconciler, after=prepared)
        leases = LeaseStore(self.database, clock=clock, ttl=self.settings.lease_seconds, identity=ProcessIdentity())
        leadership = Leadership(leases, "counting", f"{platform.node()}:{new_id()}", clock=clock)
        counting = jobs.counting(self.counting, leadership, self.tap)

        async def check() -> str | None:
            return self.tap.reason if leadership.lease is not None else None

        runtime.add_task("counting", counting, after=prepared)
        runtime.add_check("captured batches", check)
        relay_events(runtime, self.bus, self.relay, after=prepared)

    async def _migrate(self) -> None:
        await migrate(self.database, MIGRATIONS, clock=self.runtime.clock)

    def _emitted(self) -> None:
        """Something was announced: publish it, and see what follows from it."""
        self.relay.kick()
        self.asking.kick()
        self.landing.kick()
