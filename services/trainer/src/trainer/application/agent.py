"""The agent of one node: it carries out what is granted to the node, and nothing that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.leases.ports import Lease
from millrace.runtime import Reconciler
from trainer.application import metrics
from trainer.application.attempt import Attempt, World
from trainer.application.moves import move_held
from trainer.application.ports import Inventory, Queue, TrainerUnit
from trainer.application.shipping import Shipping
from trainer.domain import jobs
from trainer.domain.devices import Device, Node, Slot
from trainer.domain.jobs import HELD, Job

log = structlog.get_logger(__name__)

STEP_SECONDS = 5.0
INVENTORY_SECONDS = 10.0
RECOVER_SECONDS = 5.0


class Agent:
    """Runs attempts while it holds the node's lease; losing the lease ends them all."""

    def __init__(
        self,
        node: str,
        *,
        queue: Queue,
        transact: Transact[TrainerUnit],
        inventory: Inventory,
        world: World,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self.node = node
        self.failure: str | None = "waits for the node's lease"
        self._queue = queue
        self._transact = transact
        self._inventory = inventory
        self._world = world
        self._clock = clock
        self._on_change = on_change
        self._attempts: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._looked = float("-inf")
        self._reconciler: Reconciler | None = None

    def kick(self) -> None:
        """Look at the node's grants soon."""
        if self._reconciler is not None:
            self._reconciler.kick()

    async def lead(self, lease: Lease) -> None:
        """Work for ever under the node's lease."""

        async def step() -> None:
            await self._step(lease)

        await self._recover(lease)
        self._reconciler = Reconciler("agent", step, interval=STEP_SECONDS, clock=self._clock)
        self.failure = None
        try:
            await self._reconciler.run()
        finally:
            self.failure, self._reconciler = "waits for the node's lease", None
            await self._end_all()

    async def _recover(self, lease: Lease) -> None:
        """End what an earlier agent of this node left: its processes, its unshipped reports, its grants."""
        devices = await self._inventory.devices(frozenset())
        for job in await self._queue.held_by(self.node):
            if job.grant is not None and job.grant.process is not None:
                await self._world.processes.end(job.grant.process)
        await self._ship_leftovers()
        await asyncio.to_thread(self._world.folders.sweep)
        most = self._world.rules.interruptions

        async def work(uow: TrainerUnit) -> list[str]:
            await uow.guard(lease)
            held = await uow.jobs.held_by(self.node)
            for job in held:
                reason = f"the agent of {self.node} was restarted{_resumes(job)}"
                move = _interruption(reason, self._clock, most)
                await move_held(uow, job.run, job.need_grant().fence, move)
            await _register(uow, self.node, lease.token, devices)
            return [job.run for job in held]

        ended = await self._transact(work)
        self._looked = self._clock.monotonic()
        for kind in ("gpu", "cpu"):
            metrics.DEVICES.labels(kind).set(sum(device.kind == kind for device in devices))
        log.info("node registered", node=self.node, token=lease.token, devices=len(devices), reclaimed=ended)
        self._on_change()

    async def _ship_leftovers(self) -> None:
        left = await asyncio.to_thread(self._world.folders.leftovers)
        shippings = [
            Shipping(spool, self._world.catalog, self._clock, project=project, run=run, fence=fence)
            for project, run, fence, spool in left
        ]
        shipped = await asyncio.gather(*(shipping.flush(RECOVER_SECONDS) for shipping in shippings))
        if shippings:
            log.info("reports of earlier attempts", spools=len(shipped), shipped=sum(shipped))

    async def _step(self, lease: Lease) -> None:
        await self._look(lease)
        held = await self._queue.held_by(self.node)
        granted = {job.run: job for job in held if job.grant is not None and job.grant.token == lease.token}
        for run, (attempt, task) in list(self._attempts.items()):
            job = granted.get(run)
            if task.done():
                del self._attempts[run]
            elif job is None or not job.held_under(attempt.fence):
                task.cancel()
            elif job.cancelling:
                attempt.stop()
        for run, job in granted.items():
            if run not in self._attempts:
                self._begin(run, job)

    def _begin(self, run: str, job: Job) -> None:
        attempt = Attempt(job, self._world)
        task = asyncio.create_task(attempt.run(), name=f"run {run}")
        task.add_done_callback(self._ended)
        self._attempts[run] = (attempt, task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("attempt broke", exc_info=error)
        self.kick()
        self._on_change()

    async def _look(self, lease: Lease) -> None:
        """Compare the devices with what is known of them, now and then."""
        if self._clock.monotonic() - self._looked < INVENTORY_SECONDS:
            return
        groups = frozenset(group for attempt, _ in self._attempts.values() if (group := attempt.group) is not None)
        devices = await self._inventory.devices(groups)
        self._looked = self._clock.monotonic()

        async def work(uow: TrainerUnit) -> bool:
            known = await uow.nodes.get(self.node)
            if known is None or {slot.device for slot in known.slots} != set(devices):
                await uow.guard(lease)
                await _register(uow, self.node, lease.token, devices)
                return True
            return False

        if await self._transact(work):
            log.info("devices changed", node=self.node, trouble=[it.trouble for it in devices if it.trouble])
            self._on_change()

    async def _end_all(self) -> None:
        tasks = [task for _, task in self._attempts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._attempts.clear()


def _resumes(job: Job) -> str:
    return f"; resumes after epoch {job.checkpoint.epoch}" if job.checkpoint else "; starts again from the beginning"


def _interruption(reason: str, clock: Clock, most: int) -> Callable[[Job], Job]:
    return lambda job: jobs.interrupted(job, reason, clock.now(), most=most)


async def _register(uow: TrainerUnit, name: str, token: int, devices: list[Device]) -> None:
    """Store the node with these devices; who holds one of them still does. A held device that is gone stays listed."""
    node = await uow.nodes.get(name)
    held = {slot.device.id: slot for slot in (node.slots if node else ()) if slot.run is not None}
    found = {device.id for device in devices}
    gone = [replace(slot.device, trouble="is gone") for device, slot in held.items() if device not in found]
    slots = tuple(
        Slot(device, held[device.id].run, held[device.id].fence) if device.id in held else Slot(device)
        for device in (*devices, *gone)
    )
    await uow.nodes.save(Node(name, token, slots, revision=(node.revision if node else 0) + 1))


async def reclaim(uow: TrainerUnit, name: str, lease: Lease, clock: Clock, most: int) -> list[str]:
    """End every grant of a node whose agent fell silent, under the node's own lease; return the runs."""
    await uow.guard(lease)
    held = await uow.jobs.held_by(name)
    for job in held:
        if job.state in HELD and job.grant is not None:
            move = _interruption(f"the agent of {name} fell silent{_resumes(job)}", clock, most)
            await move_held(uow, job.run, job.grant.fence, move)
    node = await uow.nodes.get(name)
    if node is not None:
        await uow.nodes.save(replace(node, token=0, revision=node.revision + 1))
    return [job.run for job in held]
