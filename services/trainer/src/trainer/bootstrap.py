"""The composition root: settings become one running service."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

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
from trainer.adapters.cache_http import HttpCache
from trainer.adapters.calls import Calls
from trainer.adapters.catalog_http import HttpCatalog
from trainer.adapters.mongo import MongoQueue, MongoTrainer, ensure_trainer_indexes
from trainer.adapters.nvml import NvmlInventory
from trainer.adapters.processes import GroupProcesses
from trainer.adapters.run_folder import FilesystemFolders
from trainer.adapters.sockets import UnixSwitchboard
from trainer.application.agent import Agent
from trainer.application.attempt import Rules, World
from trainer.application.leasing import LeaseKeeper
from trainer.application.registering import Registrar
from trainer.application.scheduling import Scheduler
from trainer.application.watching import NodeWatch, node_lease
from trainer.domain.components import Components
from trainer.entrypoints.bus import subscriptions
from trainer.entrypoints.http import fsck_router, queue_router
from trainer.settings import TrainerSettings

SERVICE = "trainer"
REGISTER_SECONDS = 2.0
MIGRATIONS = [Migration(1, "indexes", ensure_trainer_indexes)]


@dataclass(frozen=True)
class Trainer:
    """The service, built; `app` runs everything in its lifespan."""

    app: FastAPI
    runtime: Runtime
    bus: Bus
    queue: MongoQueue
    transact: Transactor[MongoTrainer]
    agent: Agent


def build(
    settings: TrainerSettings,
    shared: SharedSettings,
    *,
    authenticator: Authenticator | None = None,
    clock: Clock | None = None,
    catalog_transport: httpx.AsyncBaseTransport | None = None,
    cache_transport: httpx.AsyncBaseTransport | None = None,
) -> Trainer:
    """Return the service of these settings; nothing connects before its lifespan begins."""
    runtime = Runtime(SERVICE, clock=clock or SystemClock())
    catalog = httpx.AsyncClient(base_url=shared.catalog_url, trust_env=False, transport=catalog_transport)
    cache = httpx.AsyncClient(base_url=shared.cache_manager_url, trust_env=False, transport=cache_transport)
    parts = _Parts(settings, shared, runtime, catalog, cache)
    parts.run()
    token = settings.token.get_secret_value()
    who = authenticator or IntrospectingAuthenticator(catalog, own_token=token, clock=runtime.clock)
    routers = [
        queue_router(parts.queue, parts.transact, runtime.clock, parts.kick),
        fsck_router(parts.queue, parts.store),
    ]
    app = create_app("Millrace trainer", runtime=runtime, authenticator=who, routers=routers, docs=True)
    return Trainer(app, runtime, parts.bus, parts.queue, parts.transact, parts.agent)


class _Parts:
    """Everything that queues, schedules and runs."""

    def __init__(
        self,
        settings: TrainerSettings,
        shared: SharedSettings,
        runtime: Runtime,
        catalog: httpx.AsyncClient,
        cache: httpx.AsyncClient,
    ) -> None:
        clock = runtime.clock
        token = settings.token.get_secret_value()
        self.settings, self.runtime, self.clients = settings, runtime, (catalog, cache)
        self.client = connect(settings.mongo_uri.get_secret_value(), app_name="millrace-trainer")
        self.database = self.client[settings.mongo_database]
        self.queue = MongoQueue(self.database)
        self.bus = Bus(service=SERVICE, servers=shared.nats_url, seed_file=settings.nats_seed_file, clock=clock)
        self.relay = Relay(self.client, self.database, self.bus.publisher, clock)
        self.transact: Transactor[MongoTrainer] = Transactor(
            self.client,
            settings.mongo_database,
            MongoTrainer,
            clock=clock,
            source=f"/millrace/{SERVICE}",
            on_emit=self.relay.kick,
        )
        self.store = open_lake(shared)
        self.cache = HttpCache(Calls(cache, token, name="cache manager"))
        self.catalog = HttpCatalog(Calls(catalog, token, name="catalog"))
        self.components = Components(settings.components)
        self.switchboard = UnixSwitchboard((settings.work_folder / "sockets").absolute())
        identity = ProcessIdentity()
        self.leases = LeaseStore(self.database, clock=clock, ttl=settings.lease_seconds, identity=identity)
        self.holder = f"{settings.node}:{os.getpid()}:{new_id()}"
        self.rules = Rules(settings.attempts, settings.interruptions, settings.grace_seconds, settings.log_lines)
        self.agent = self._agent()
        self.scheduler: Reconciler | None = None
        self._background()

    def _background(self) -> None:
        clock, settings = self.runtime.clock, self.settings
        keeper = LeaseKeeper(queue=self.queue, transact=self.transact, cache=self.cache)
        registrar = Registrar(queue=self.queue, transact=self.transact, catalog=self.catalog, clock=clock)
        self.keeping = Reconciler("cache-leases", keeper.step, interval=settings.renew_seconds, clock=clock)
        self.registering = Reconciler("registration", registrar.step, interval=REGISTER_SECONDS, clock=clock)
        self.scheduling = Scheduler(
            queue=self.queue,
            transact=self.transact,
            cache=self.cache,
            clock=clock,
            on_grant=self.agent.kick,
            again=self._wake_soon,
        )
        self.watching = NodeWatch(
            own=settings.node,
            holder=self.holder,
            queue=self.queue,
            leases=self.leases,
            transact=self.transact,
            clock=clock,
            most=settings.interruptions,
            on_change=self.kick,
        )

    def _agent(self) -> Agent:
        settings, clock = self.settings, self.runtime.clock
        world = World(
            transact=self.transact,
            store=self.store,
            catalog=self.catalog,
            cache=self.cache,
            processes=GroupProcesses(clock, deadline=settings.deadline_seconds, limits=settings.limits),
            switchboard=self.switchboard,
            folders=FilesystemFolders(settings.work_folder.absolute()),
            components=self.components,
            clock=clock,
            rules=self.rules,
            after=self.kick,
        )
        return Agent(
            settings.node,
            queue=self.queue,
            transact=self.transact,
            inventory=NvmlInventory(slots=settings.cpu_slots, gpus=settings.gpus),
            world=world,
            clock=clock,
            on_change=self.kick,
        )

    def kick(self) -> None:
        """Wake everything: something changed."""
        for worker in (self.scheduler, self.registering, self.keeping, self.agent):
            if worker is not None:
                worker.kick()

    def run(self) -> None:
        """Add the background work to the runtime."""
        self.bus.subscribe(subscriptions(self.components, self.runtime.clock, self._wake_scheduler), self.transact)
        prepared = self.runtime.prepare("database", self._migrate, waits="waits for MongoDB")
        self._lead(prepared)
        for reconciler in (self.keeping, self.registering):
            self.runtime.add_task(reconciler.name, reconciler.run, after=prepared)
        self._close()
        relay_events(self.runtime, self.bus, self.relay, after=prepared)

    async def _migrate(self) -> None:
        await migrate(self.database, MIGRATIONS, clock=self.runtime.clock)

    def _wake_scheduler(self) -> None:
        if self.scheduler is not None:
            self.scheduler.kick()

    def _wake_soon(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._wake_scheduler)

    def _lead(self, prepared: asyncio.Event) -> None:
        clock = self.runtime.clock
        scheduler = Leadership(self.leases, "scheduler", self.holder, clock=clock)
        agent = Leadership(self.leases, node_lease(self.settings.node), self.holder, clock=clock)

        async def schedule(lease: Lease) -> None:
            async def step() -> None:
                await self.scheduling.step(lease)

            self.scheduler = Reconciler("scheduler", step, interval=self.settings.poll_seconds, clock=clock)
            watch = Reconciler("node-watch", self.watching.step, interval=self.settings.poll_seconds, clock=clock)
            try:
                await asyncio.gather(self.scheduler.run(), watch.run())
            finally:
                self.scheduler = None

        async def lead_scheduler() -> None:
            await scheduler.run(schedule)

        async def lead_agent() -> None:
            await agent.run(self.agent.lead)

        async def check_scheduler() -> str | None:
            return self.scheduler.failure if self.scheduler is not None else None

        async def check_agent() -> str | None:
            return self.agent.failure

        self.runtime.add_task("scheduler", lead_scheduler, after=prepared)
        self.runtime.add_check("scheduler", check_scheduler)
        self.runtime.add_task("agent", lead_agent, after=prepared)
        self.runtime.add_check("agent", check_agent)

    def _close(self) -> None:
        async def sockets() -> None:
            self.switchboard.close()

        closers = (self.client.close, self.store.close, *(it.aclose for it in self.clients), sockets)
        for close in closers:
            self.runtime.on_close(close)
