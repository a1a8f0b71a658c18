"""The composition root: settings become one running ingest."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from ingest.adapters.catalog_http import HttpCatalog
from ingest.adapters.dataset_lake import DatasetLake
from ingest.adapters.dicom.deidentify import Policy
from ingest.adapters.examiner import Budget, DicomRules, FileExaminer
from ingest.adapters.lake_buckets import LakeBuckets
from ingest.adapters.mongo_jobs import MongoJobs
from ingest.adapters.mongo_unit import JOBS, MIGRATIONS, IngestUnitOfWork
from ingest.adapters.places import Places
from ingest.adapters.web_places import WebPlaces
from ingest.application.ports import Catalog
from ingest.application.receive import look_at_zones
from ingest.application.reconcile import Attendance
from ingest.application.world import Limits, World
from ingest.domain.places import Scheme, Zone
from ingest.entrypoints.bus import subscriptions
from ingest.entrypoints.http import fsck_router, router
from ingest.settings import IngestSettings
from millrace.auth import Authenticator, IntrospectingAuthenticator
from millrace.bus import Bus
from millrace.clock import Clock, SystemClock, new_id
from millrace.documents import Transactor, connect
from millrace.documents.client import Client
from millrace.documents.migrations import migrate
from millrace.documents.translating import translating
from millrace.egress import EgressGuard
from millrace.errors import Invalid
from millrace.http import create_app
from millrace.leases import LeaseStore, ProcessIdentity
from millrace.objects import ObjectStore
from millrace.outbox import Relay
from millrace.runtime import Kick, Reconciler, Runtime
from millrace.sealing import KeyRing, SealedStore, catalog_keys
from millrace.service import relay_events
from millrace.settings import SharedSettings

SERVICE = "ingest"
SOURCE = "/millrace/ingest"


@dataclass
class Engine:
    """The part that works: everything but bus and HTTP."""

    world: World
    lake: DatasetLake
    examiner: FileExaminer
    guard: EgressGuard
    attendance: Attendance
    reconciler: Reconciler
    zones: Reconciler
    transactor: Transactor[IngestUnitOfWork]

    async def close(self) -> None:
        """Stop all work."""
        await self.attendance.close()
        self.examiner.close()
        await self.guard.close()

    async def prepare(self) -> None:
        """Bring the database to its present shape."""
        await migrate(self.transactor.database, MIGRATIONS, clock=self.world.clock)


def limits(settings: IngestSettings) -> Limits:
    """Return the limits that the settings ask for."""
    return Limits(
        max_files=settings.max_files,
        max_bytes=settings.max_bytes,
        rebases=settings.rebases,
        first_retry=settings.first_retry_seconds,
        last_retry=settings.last_retry_seconds,
    )


def examiner(settings: IngestSettings) -> FileExaminer:
    """Return what looks at landed files."""
    rules = {
        project: DicomRules(
            deidentify=wanted.deidentify,
            drop_documents=wanted.documents == "drop",
            policy=Policy(wanted.private(), frozenset(wanted.structure_words)),
        )
        for project, wanted in settings.dicom.items()
    }
    secret = settings.pseudonym_secret
    budget = Budget(dicom=settings.dicom_bytes, spool=settings.spool_bytes, folder=settings.spool_folder)
    return FileExaminer(rules, budget, None if secret is None else secret.get_secret_value())


def _zones(settings: IngestSettings, scheme: Scheme) -> tuple[Zone, ...]:
    zones = tuple(item.zone() for item in settings.landing_zones)
    if strange := [zone.place.uri for zone in zones if zone.place.scheme != scheme]:
        raise Invalid(f"the landing zone {strange[0]} is not in a lake of {scheme}://", hint="see MILLRACE_LAKE")
    return zones


def assemble(
    settings: IngestSettings,
    client: Client,
    bucket: str,
    stores: Callable[[str], ObjectStore],
    *,
    catalog: Catalog,
    clock: Clock,
    holder: str | None = None,
    scheme: Scheme = "s3",
    keys: KeyRing | None = None,
) -> Engine:
    """Build the working part on the lake's `bucket`; nothing runs yet. Without `keys` nothing is sealed.

    Raises:
        Invalid: a landing zone lies in another kind of lake than this.
    """
    database = client[settings.mongo_database]
    transactor = Transactor(client, settings.mongo_database, IngestUnitOfWork, clock=clock, source=SOURCE)
    lake = DatasetLake(stores(bucket) if keys is None else SealedStore(stores(bucket), keys))
    looks = examiner(settings)
    guard = EgressGuard([item.allowed() for item in settings.hosts])
    roots = tuple(item.root() for item in settings.folders)
    kicks = Kick()
    world = World(
        transact=transactor,
        jobs=translating(MongoJobs(database[JOBS])),
        places=Places(
            stores,
            web=WebPlaces(guard, seconds=settings.web_seconds),
            spool_bytes=settings.spool_bytes,
            spool_folder=settings.spool_folder,
            roots=roots,
        ),
        examiner=looks,
        lake=lake,
        catalog=catalog,
        leases=LeaseStore(database, clock=clock, ttl=settings.takeover_seconds, identity=ProcessIdentity()),
        holder=holder or f"{platform.node()}:{os.getpid()}:{new_id()}",
        clock=clock,
        buckets=frozenset({bucket, *settings.buckets}),
        scheme=scheme,
        zones=_zones(settings, scheme),
        roots=roots,
        limits=limits(settings),
        kick=kicks,
    )
    attendance = Attendance(world, datasets=settings.datasets)
    reconciler = Reconciler("jobs", attendance.step, interval=settings.poll_seconds, clock=clock)
    kicks.call = reconciler.kick

    async def look() -> None:
        await look_at_zones(world)

    zones = Reconciler("landing-zones", look, interval=settings.zone_seconds, clock=clock)
    return Engine(world, lake, looks, guard, attendance, reconciler, zones, transactor)


def build(
    settings: IngestSettings,
    shared: SharedSettings,
    *,
    authenticator: Authenticator | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """Return the app; its lifespan runs everything, and nothing connects before."""
    runtime = Runtime(SERVICE, clock=clock or SystemClock())
    buckets = LakeBuckets(shared)
    client = connect(settings.mongo_uri.get_secret_value(), app_name=SERVICE)
    bus = Bus(service=SERVICE, servers=shared.nats_url, seed_file=settings.nats_seed_file, clock=runtime.clock)
    http = httpx.AsyncClient(base_url=shared.catalog_url, follow_redirects=False, trust_env=False)
    token = settings.token.get_secret_value()
    catalog = HttpCatalog(http, token=token)
    engine = assemble(
        settings,
        client,
        shared.lake_bucket,
        buckets.open,
        catalog=catalog,
        clock=runtime.clock,
        scheme=shared.lake_scheme,
        keys=catalog_keys(http, token=token, clock=runtime.clock),
    )
    relay = Relay(client, settings.mongo_database, bus.publisher, runtime.clock)
    engine.transactor.on_emit = relay.kick
    bus.subscribe(subscriptions(runtime.clock, engine.world.kick), engine.transactor)
    for close in (client.close, buckets.close, http.aclose, engine.close):
        runtime.on_close(close)
    _run(runtime, engine, bus, relay)
    app = create_app(
        "Millrace ingest",
        runtime=runtime,
        authenticator=authenticator or IntrospectingAuthenticator(http, own_token=token, clock=runtime.clock),
        routers=[router, fsck_router],
        docs=True,
    )
    app.state.world = engine.world
    app.state.commits = engine.lake
    return app


def _run(runtime: Runtime, engine: Engine, bus: Bus, relay: Relay) -> None:
    """Let `runtime` run the parts: the database first, then bus, relay and reconcilers."""
    prepared = runtime.prepare("database", engine.prepare, waits="waits for MongoDB")
    runtime.add_reconciler(engine.reconciler, after=prepared)
    runtime.add_reconciler(engine.zones, after=prepared)
    relay_events(runtime, bus, relay, after=prepared)
