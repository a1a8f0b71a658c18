"""The composition root: settings become one running service."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from starlette.types import ASGIApp

from millrace.auth import Authenticator, IntrospectingAuthenticator
from millrace.bus import Bus
from millrace.clock import Clock, SystemClock, new_id
from millrace.documents import Transactor, connect
from millrace.documents.migrations import Migration, migrate
from millrace.http import create_app
from millrace.leases import Leadership, Lease, LeaseStore, ProcessIdentity
from millrace.objects.lake import open_lake
from millrace.outbox import Relay
from millrace.runtime import Reconciler, Runtime
from millrace.service import relay_events
from millrace.settings import SharedSettings
from serving.adapters.batches import BatchMaker
from serving.adapters.mongo import MongoDocuments, MongoServing
from serving.adapters.outlet import Outlet
from serving.adapters.packages import PackageFetcher
from serving.adapters.publisher import BusBatchPublisher
from serving.adapters.repository_folder import FolderRepository
from serving.adapters.spool import Spool
from serving.adapters.triton_grpc import TritonServer
from serving.adapters.upstream import Upstream
from serving.application.capture import Ring
from serving.application.deploy import Deployer, Rules
from serving.application.gateway import Gateway
from serving.application.loading import Loader, keep_up
from serving.application.world import World
from serving.entrypoints.bus import subscriptions
from serving.entrypoints.http import FrontDoor, endpoints_router, fsck_router
from serving.entrypoints.oip import OipApp
from serving.settings import ServingSettings

SERVICE = "serving"
POLL_SECONDS = 1.0
LEASE_SECONDS = 10.0
KICK_SECONDS = 0.1
MIGRATIONS: list[Migration] = []


@dataclass(frozen=True)
class Serving:
    """The service, built; `app` runs everything in its lifespan."""

    app: ASGIApp
    runtime: Runtime
    world: World
    bus: Bus
    outlet: Outlet


def build(
    settings: ServingSettings,
    shared: SharedSettings,
    *,
    authenticator: Authenticator | None = None,
    clock: Clock | None = None,
) -> Serving:
    """Return the service of these settings; nothing connects before its lifespan begins."""
    runtime = Runtime(SERVICE, clock=clock or SystemClock())
    world = World()
    ring = Ring(settings.capture_buffer_bytes)
    data = Upstream(
        settings.triton_http, max_in_flight=settings.max_in_flight, max_body_bytes=4 * settings.max_body_bytes
    )
    runtime.on_close(data.close)
    control = _Control(settings, shared, runtime, world)
    gateway = Gateway(
        world=world,
        data=data,
        ring=ring,
        clock=runtime.clock,
        seconds=settings.infer_seconds,
        on_away=_not_too_often(control.models.kick, runtime.clock),
    )
    control.run(gateway)
    outlet = _outlet(settings, runtime, ring, control.bus)
    who = authenticator or _authenticator(settings, shared, runtime)
    routers = [
        endpoints_router(control.documents, world, gateway),
        fsck_router(control.documents, control.server, control.repository),
    ]
    admin = create_app("Millrace serving", runtime=runtime, authenticator=who, routers=routers, docs=True)
    oip = OipApp(
        gateway=gateway,
        world=world,
        authenticator=who,
        clock=runtime.clock,
        max_body_bytes=settings.max_body_bytes,
    )
    return Serving(FrontDoor(data=oip, admin=admin), runtime, world, control.bus, outlet)


class _Control:
    """Everything that brings models up: documents, bus, model server, and the reconcilers."""

    def __init__(self, settings: ServingSettings, shared: SharedSettings, runtime: Runtime, world: World) -> None:
        clock = runtime.clock
        self.settings, self.runtime, self.world = settings, runtime, world
        self.client = connect(settings.mongo_uri.get_secret_value(), app_name="millrace-serving")
        self.database = self.client[settings.mongo_database]
        self.documents = MongoDocuments(self.database)
        self.bus = Bus(service=SERVICE, servers=shared.nats_url, seed_file=settings.nats_seed_file, clock=clock)
        self.relay = Relay(self.client, self.database, self.bus.publisher, clock)
        self.transactor = Transactor(
            self.client,
            settings.mongo_database,
            MongoServing,
            clock=clock,
            source="/millrace/serving",
            on_emit=self.relay.kick,
        )
        self.store = open_lake(shared)
        self.server = TritonServer(settings.triton_grpc, load_seconds=settings.load_seconds)
        packages = PackageFetcher(self.store, max_bytes=settings.max_package_bytes)
        self.repository = FolderRepository(settings.repository, packages, max_batch_size=settings.max_batch_size)
        self.loader = Loader(self.server, self.repository)
        self.leases = LeaseStore(self.database, clock=clock, ttl=LEASE_SECONDS, identity=ProcessIdentity())
        self.models = Reconciler("models", self._keep_up, interval=POLL_SECONDS, clock=clock)
        self.routes = Reconciler("routes", self._read_routes, interval=POLL_SECONDS, clock=clock)
        self.lease: Lease | None = None

    async def _keep_up(self) -> None:
        await keep_up(self.world, self.loader, self.server)

    async def _read_routes(self) -> None:
        lost = set(self.world.waits())
        await self.world.read_documents(self.documents)
        if set(self.world.waits()) - lost:
            self.models.kick()

    def run(self, gateway: Gateway) -> None:
        """Add the background work to the runtime."""
        runtime = self.runtime
        deployer = Deployer(
            world=self.world,
            documents=self.documents,
            transact=self.transactor,
            server=self.server,
            repository=self.repository,
            loader=self.loader,
            traffic=gateway,
            check_lease=self.leases.check,
            clock=runtime.clock,
            rules=Rules(self.settings.drain_seconds, self.settings.sampling),
        )

        async def step() -> None:
            if self.lease is not None:
                await deployer.step(self.lease)

        deploy = Reconciler("deployments", step, interval=POLL_SECONDS, clock=runtime.clock)
        self.bus.subscribe(subscriptions(deploy.kick), self.transactor)
        prepared = runtime.prepare("database", self._prepare, waits="waits for MongoDB")
        self._lead(prepared, deploy)
        runtime.add_reconciler(self.routes)
        runtime.add_reconciler(self.models)
        relay_events(runtime, self.bus, self.relay, after=prepared)
        runtime.add_check("routed models", self._routed)
        runtime.on_close(self.server.close)
        runtime.on_close(self.store.close)
        runtime.on_close(self.client.close)

    async def _prepare(self) -> None:
        await asyncio.to_thread(self.repository.prepare)
        await migrate(self.database, MIGRATIONS, clock=self.runtime.clock)

    def _lead(self, prepared: asyncio.Event, deploy: Reconciler) -> None:
        holder = f"{platform.node()}:{self.settings.worker}:{new_id()}"
        leadership = Leadership(self.leases, "deployer", holder, clock=self.runtime.clock)

        async def work(lease: Lease) -> None:
            self.lease = lease
            try:
                await deploy.run()
            finally:
                self.lease = None

        async def lead() -> None:
            await leadership.run(work)

        async def check() -> str | None:
            return deploy.failure if self.lease is not None else None

        self.runtime.add_task("deployer", lead, after=prepared)
        self.runtime.add_check("deployments", check)

    async def _routed(self) -> str | None:
        waits = self.world.waits()
        return f"not loaded: {', '.join(waits[:8])}" if waits else None


def _not_too_often(kick: Callable[[], None], clock: Clock) -> Callable[[], None]:
    """Return `kick` for callers that fail a thousand times a second."""
    last = float("-inf")

    def maybe() -> None:
        nonlocal last
        now = clock.monotonic()
        if now - last >= KICK_SECONDS:
            last = now
            kick()

    return maybe


def _outlet(settings: ServingSettings, runtime: Runtime, ring: Ring, bus: Bus) -> Outlet:
    spool = None
    if settings.spool is not None and settings.capture_spool_bytes > 0:
        spool = Spool(settings.spool / f"{settings.worker}.batches", max_bytes=settings.capture_spool_bytes)
    maker = BatchMaker(worker=settings.worker, boot=str(new_id()))
    memory = settings.capture_buffer_bytes
    outlet = Outlet(ring, maker, BusBatchPublisher(bus), memory_bytes=memory, spool=spool)
    outlet.start()
    runtime.add_task("capture", outlet.fill)
    runtime.add_task("capture-drain", outlet.drain)
    runtime.on_close(outlet.close)
    return outlet


def _authenticator(settings: ServingSettings, shared: SharedSettings, runtime: Runtime) -> Authenticator:
    client = httpx.AsyncClient(base_url=shared.catalog_url)
    runtime.on_close(client.aclose)
    return IntrospectingAuthenticator(client, own_token=settings.token.get_secret_value(), clock=runtime.clock)
