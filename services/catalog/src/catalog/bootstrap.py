"""The composition root: the only place that knows every part of the catalog by name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import httpx
import structlog
from fastapi import FastAPI

from catalog.adapters.authenticator import CatalogAuthenticator
from catalog.adapters.checking import LakeChecker
from catalog.adapters.lake import ObjectStoreLake
from catalog.adapters.landing_zone import S3LandingZone
from catalog.adapters.landing_zone_whole import WholeLandingZone
from catalog.adapters.master_keys import MasterKeys, parse_master_keys
from catalog.adapters.mongo_unit import CatalogUnitOfWork, MongoDocuments
from catalog.adapters.pictures.painter import ProcessPainter
from catalog.adapters.project_keys import own_keys
from catalog.adapters.schema import MIGRATIONS
from catalog.adapters.services import HttpServices
from catalog.adapters.version_files import LakeFiles
from catalog.application.catalog import Catalog
from catalog.application.encryption import rewrap
from catalog.application.projections.receive import OWN_SOURCE
from catalog.application.tokens import install_tokens, read_bootstrap
from catalog.entrypoints import jobs
from catalog.entrypoints.bus import subscriptions
from catalog.entrypoints.forward import Forwarder
from catalog.entrypoints.http import make_app
from catalog.settings import CatalogSettings
from millrace.bus import Bus
from millrace.clock import Clock, SystemClock
from millrace.documents import Transactor, connect, translated
from millrace.documents.client import Client
from millrace.documents.migrations import migrate
from millrace.objects import Lake
from millrace.objects.lake import open_lake
from millrace.outbox import Relay
from millrace.runtime import Reconciler, Runtime
from millrace.sealing import SealedStore
from millrace.settings import SharedSettings

log = structlog.get_logger(__name__)

SERVICE = "catalog"
RETRY_SECONDS = 3.0


def forwarding(shared: SharedSettings) -> dict[str, tuple[str, str]]:
    """Return the gateway's table: path prefix → (service, its address)."""
    return {
        "/v1/cache": ("cache-manager", shared.cache_manager_url),
        "/v1/queue": ("trainer", shared.trainer_url),
        "/v1/gpus": ("trainer", shared.trainer_url),
        "/v1/labels": ("drift-monitor", shared.drift_monitor_url),
        "/v1/drift": ("drift-monitor", shared.drift_monitor_url),
        "/v1/endpoints": ("serving", shared.serving_url),
        "/v1/ingest": ("ingest", shared.ingest_url),
    }


def neighbours(shared: SharedSettings) -> dict[str, str]:
    """Return the services whose invariants are checked, too, by address."""
    return {
        "ingest": shared.ingest_url,
        "cache-manager": shared.cache_manager_url,
        "trainer": shared.trainer_url,
        "serving": shared.serving_url,
        "drift-monitor": shared.drift_monitor_url,
    }


@dataclass
class Parts:
    """What a process of the catalog consists of."""

    settings: CatalogSettings
    shared: SharedSettings
    clock: Clock
    client: Client
    http: httpx.AsyncClient
    store: Lake
    sealed: SealedStore
    painter: ProcessPainter
    zone: S3LandingZone | WholeLandingZone
    bus: Bus
    relay: Relay
    transactor: Transactor[CatalogUnitOfWork]
    catalog: Catalog
    authenticator: CatalogAuthenticator


def build(settings: CatalogSettings, shared: SharedSettings) -> FastAPI:
    """Return the app of the catalog; its lifespan runs everything."""
    parts = assemble(settings, shared, open_lake(shared))
    runtime = Runtime(SERVICE, clock=parts.clock)
    run_in(runtime, parts)
    return make_app(
        parts.catalog,
        runtime=runtime,
        authenticator=parts.authenticator,
        forwarder=Forwarder(forwarding(shared), parts.http),
    )


def assemble(settings: CatalogSettings, shared: SharedSettings, store: Lake) -> Parts:
    """Build the parts and connect them; nothing runs yet."""
    clock = SystemClock()
    pepper = settings.pepper
    client = connect(settings.mongo_uri.get_secret_value(), app_name=SERVICE)
    documents = MongoDocuments(client[settings.mongo_database])
    bus = Bus(service=SERVICE, servers=shared.nats_url, seed_file=settings.nats_seed_file, clock=clock)
    relay = Relay(client, settings.mongo_database, bus.publisher, clock)
    transactor = Transactor(client, settings.mongo_database, CatalogUnitOfWork, clock=clock, source=OWN_SOURCE)
    authenticator = CatalogAuthenticator(documents, pepper, clock)
    http = httpx.AsyncClient(follow_redirects=False, trust_env=False)
    painter = ProcessPainter()
    zone = S3LandingZone(shared, store) if shared.lake == "s3" else WholeLandingZone(shared, store)
    text = settings.master_keys
    keys = MasterKeys(() if text is None else parse_master_keys(text))
    sealed = SealedStore(store, own_keys(documents, keys, clock))
    catalog = Catalog(
        documents=documents,
        transact=transactor,
        lake=ObjectStoreLake(sealed),
        files=LakeFiles(sealed),
        checker=LakeChecker(sealed),
        painter=painter,
        zone=zone,
        clock=clock,
        keys=keys,
        services=HttpServices(neighbours(shared), http),
        environment=shared.environment,
        pepper=pepper,
        collection_grace=timedelta(hours=settings.gc_grace_hours),
        webhook_origins=settings.webhook_origins,
        forget_tokens=authenticator.forget,
    )
    bus.subscribe(subscriptions(clock), transactor)
    return Parts(
        settings=settings,
        shared=shared,
        clock=clock,
        client=client,
        http=http,
        store=store,
        sealed=sealed,
        painter=painter,
        zone=zone,
        bus=bus,
        relay=relay,
        transactor=transactor,
        catalog=catalog,
        authenticator=authenticator,
    )


def run_in(runtime: Runtime, parts: Parts) -> None:
    """Let `runtime` run the parts: preparation first, then the bus, the relay and the reconcilers."""
    start = Start(parts)
    runtime.add_reconciler(Reconciler("database", start.prepare_database, interval=RETRY_SECONDS, clock=parts.clock))
    runtime.add_reconciler(Reconciler("lake", start.prepare_lake, interval=RETRY_SECONDS, clock=parts.clock))
    policies = runtime.add_reconciler(jobs.policies(parts.catalog))
    numbers = runtime.add_reconciler(jobs.numbers(parts.catalog))
    runtime.add_reconciler(jobs.chain(parts.catalog))
    runtime.add_reconciler(jobs.projections(parts.catalog))
    runtime.add_reconciler(jobs.garbage(parts.catalog, settle=parts.settings.gc_settle_seconds))
    landing_age = timedelta(days=parts.settings.landing_days)
    runtime.add_reconciler(jobs.landings(parts.catalog, parts.zone, age=landing_age))
    runtime.add_reconciler(jobs.token_uses(parts.catalog, parts.authenticator.used))
    runtime.add_task("relay", start.relay)
    runtime.add_check("start", start.check)
    runtime.add_check("bus", parts.bus.check)
    runtime.add_check("outbox", parts.relay.check)
    runtime.on_close(start.close)

    def emitted() -> None:
        for worker in (parts.relay, policies, numbers):
            worker.kick()

    parts.transactor.on_emit = emitted


class Start:
    """Brings the process from started to ready, whenever what it needs comes up."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = asyncio.Event()
        self._lake = asyncio.Event()

    async def prepare_database(self) -> None:
        """Migrate, and store the installation's own tokens; then ask whether the database still answers."""
        parts = self._parts
        if self._database.is_set():
            with translated():
                await parts.transactor.database.command("ping")
            return
        await migrate(parts.transactor.database, MIGRATIONS, clock=parts.clock)
        if (path := parts.settings.bootstrap_file) is not None:
            wanted = await asyncio.to_thread(read_bootstrap, path)
            pepper = parts.catalog.pepper
            await parts.catalog.in_unit(install_tokens, wanted, path.parent, pepper=pepper, clock=parts.clock)
        if locked := await parts.catalog.in_unit(rewrap, parts.catalog.keys):
            log.error("keys of encrypted projects cannot be unwrapped: the master key is not there", projects=locked)
        self._database.set()

    async def prepare_lake(self) -> None:
        """Make the bucket if it is missing, and find out what the endpoint can do."""
        if not self._lake.is_set():
            await self._parts.store.ensure_bucket()
            await self._parts.store.probe()
            self._lake.set()

    async def relay(self) -> None:
        """Start the bus once the database is prepared, and relay for ever."""
        await self._database.wait()
        await self._parts.bus.start()
        await self._parts.relay.run()

    async def check(self) -> str | None:
        """Return what is not prepared yet."""
        missing = [name for name, it in (("the database", self._database), ("the lake", self._lake)) if not it.is_set()]
        return f"prepares {' and '.join(missing)}" if missing else None

    async def close(self) -> None:
        """Let go of everything that was opened."""
        await self._parts.bus.stop()
        await self._parts.http.aclose()
        await self._parts.painter.close()
        await self._parts.zone.close()
        await self._parts.store.close()
        await self._parts.client.close()
