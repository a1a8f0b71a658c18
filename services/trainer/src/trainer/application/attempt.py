"""One attempt of a run on this node: from its grant to its outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.errors import Corrupt, Fenced, Invalid, MillraceError, NotFound
from millrace.failpoints import fp
from millrace.objects import ObjectStore
from millrace.tasks import cancel_and_wait
from millrace.telemetry import span
from trainer.application import facts, metrics, told
from trainer.application.early import pass_on
from trainer.application.environment import environment
from trainer.application.folders import Folders, RunFolder
from trainer.application.moves import move_held
from trainer.application.ports import Cache, Catalog, Child, Order, Processes, Report, Switchboard, TrainerUnit
from trainer.application.shipping import Shipping
from trainer.application.storing import CheckpointUploads, fetch_checkpoint, store_checkpoint, store_package
from trainer.domain import jobs
from trainer.domain.components import Components
from trainer.domain.jobs import Artifact, Job, State

log = structlog.get_logger(__name__)

EXIT_UNUSABLE, EXIT_AGAIN = 65, 75
BEAT_SECONDS = 2.0
FLUSH_SECONDS = 10.0
TAIL_LINES = 5


@dataclass(frozen=True)
class Rules:
    """Limits of one node's attempts; times in seconds."""

    attempts: int = 3
    interruptions: int = 20
    grace: float = 10.0
    log_lines: int = 100_000


@dataclass(frozen=True)
class World:
    """What attempts work with."""

    transact: Transact[TrainerUnit]
    store: ObjectStore
    catalog: Catalog
    cache: Cache
    processes: Processes
    switchboard: Switchboard
    folders: Folders
    components: Components
    clock: Clock
    rules: Rules
    after: Callable[[], None]
    """Called when something changed that others may wait for: devices are free, a package waits."""


@dataclass
class _Said:
    """What the component said that decides what comes of the run."""

    metrics: dict[str, float] = field(default_factory=dict)
    model: Path | None = None
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    lines: int = 0


class Attempt:
    """Runs the job's component under its grant. `run()` ends when the outcome is recorded, or the grant is lost."""

    def __init__(self, job: Job, world: World) -> None:
        self.job = job
        self.fence = job.need_grant().fence
        self._world = world
        self._said = _Said()
        self._stopping = asyncio.Event()
        self._child: Child | None = None

    def stop(self) -> None:
        """Ask the component to stop, and kill it if it does not within the grace."""
        self._stopping.set()

    @property
    def group(self) -> int | None:
        """Return the process group's id, while there is one."""
        return self._child.process.pid if self._child else None

    async def run(self) -> None:
        """Run to the end. Cancelling it kills the process group first."""
        with span("run attempt", parent=facts.cause_of(self.job).traceparent):
            structlog.contextvars.bind_contextvars(run=self.job.run, fence=self.fence)
            try:
                folder = await self._world.folders.prepare(self.job)
                with contextlib.ExitStack() as stack:
                    stack.callback(folder.remove)
                    await self._run(folder)
            except Fenced as error:
                log.warning("grant is lost", reason=error.message)
            except Invalid as error:
                await self._broke(error.message, None, final=True)
            except MillraceError as error:
                await self._interrupted(f"could not be carried out here: {error.message}")
            except OSError as error:
                await self._interrupted(f"could not be carried out here: {type(error).__name__}: {error}")
            except Exception as error:
                log.exception("attempt broke")
                await self._broke(f"an error of the trainer itself: {type(error).__name__}", None, final=False)

    async def _run(self, folder: RunFolder) -> None:
        world, job = self._world, self.job
        await self._fetch_checkpoint(folder)
        shipping = Shipping(
            folder.spool, world.catalog, world.clock, project=job.project, run=job.run, fence=self.fence
        )
        uploads = CheckpointUploads(self._store_checkpoint, folder.discard)
        hears = told.Hears(self._said_by(shipping, uploads, folder), self._wanted)
        talk = await world.switchboard.open(f"{self.fence}", hears)
        try:
            async with self._spawned(folder, talk.address) as child:
                await self._started(child)
                code = await self._watch(child, shipping, uploads)
        finally:
            await talk.close()
        await self._end(code, folder, shipping, uploads)

    async def _fetch_checkpoint(self, folder: RunFolder) -> None:
        if self.job.checkpoint is None:
            return
        try:
            await fetch_checkpoint(self._world.store, self.job.checkpoint, folder.path / "checkpoint")
        except (Corrupt, NotFound) as error:
            log.warning("checkpoint refused; the run starts from its beginning", reason=error.message)
            await asyncio.to_thread(folder.discard, folder.path / "checkpoint")

    @contextlib.asynccontextmanager
    async def _spawned(self, folder: RunFolder, address: str) -> AsyncIterator[Child]:
        argv = self._world.components.argv(self.job.component)
        if argv is None:
            raise Invalid(f"there is no component {self.job.component}")
        await fp("train.T3.before")
        order = Order(argv, environment(self.job, folder.path, address), folder.path)
        child = await self._world.processes.spawn(order)
        self._child = child
        try:
            yield child
        finally:
            child.kill()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(child.wait())
            self._child = None

    async def _started(self, child: Child) -> None:
        await fp("train.T3.during")

        async def work(uow: TrainerUnit) -> Job:
            moved = await move_held(
                uow, self.job.run, self.fence, lambda job: jobs.started(job, child.process, self._now())
            )
            facts.announce(uow, moved, facts.started(moved))
            return moved

        self.job = await self._world.transact(work)
        metrics.STARTED.labels(self.job.component).inc()
        await fp("train.T3.after")
        log.info("process started", component=self.job.component, pid=child.process.pid, attempt=self.job.attempt)

    async def _watch(self, child: Child, shipping: Shipping, uploads: CheckpointUploads) -> int:
        pumps = [asyncio.create_task(self._pump(child, name, shipping)) for name in ("stdout", "stderr")]
        helpers = [
            asyncio.create_task(work)
            for work in (shipping.run(), uploads.run(), self._beat(child), self._stop(child, shipping))
        ]
        try:
            code = await child.wait()
            await asyncio.wait(pumps, timeout=2.0)
        finally:
            await cancel_and_wait((*pumps, *helpers))
        if shipping.fenced.is_set():
            raise Fenced("the catalog knows a newer grant")
        return code

    async def _beat(self, child: Child) -> None:
        while True:
            await fp("train.T4.before")
            child.beat()
            await fp("train.T4.after")
            await asyncio.sleep(BEAT_SECONDS)

    async def _stop(self, child: Child, shipping: Shipping) -> None:
        asked = asyncio.create_task(self._stopping.wait())
        fenced = asyncio.create_task(shipping.fenced.wait())
        try:
            await asyncio.wait({asked, fenced}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            fenced.cancel()
        if not shipping.fenced.is_set():
            child.terminate()
            await asyncio.sleep(self._world.rules.grace)
        child.kill()

    async def _pump(self, child: Child, stream: str, shipping: Shipping) -> None:
        while (raw := await child.lines(stream)) is not None:
            text = raw.decode("utf-8", "replace").replace("\0", "\ufffd").rstrip("\r\n")
            if stream == "stderr" and text.strip():
                self._said.errors.append(text)
            if self._said.lines < self._world.rules.log_lines:
                offset, self._said.lines = self._said.lines, self._said.lines + 1
                at = self._now().isoformat()
                shipping.add(Report("log", at, text=text[:16_000], stream=stream, offset=offset))

    def _said_by(
        self, shipping: Shipping, uploads: CheckpointUploads, folder: RunFolder
    ) -> Mapping[str, Callable[[told.Message], None]]:
        """Return what is done with each kind of message."""

        def checkpoint(said: told.CheckpointMade) -> None:
            uploads.offer(said.epoch, folder.take(folder.place(said.path, what="checkpoint")))

        def model(said: told.ModelMade) -> None:
            self._said.model = folder.place(said.path, what="model")
            self._said.metrics.update(said.metrics)

        return told.handlers(
            metric=lambda said: shipping.add(Report("metric", self._at(), values=said.values, step=said.step)),
            stage=lambda said: shipping.add(Report("stage", self._at(), code=said.code, text=said.message)),
            checkpoint=checkpoint,
            model=model,
            result=lambda said: self._said.metrics.update(said.numbers),
        )

    async def _wanted(self, said: told.PacksWanted) -> Mapping[str, Any]:
        return await pass_on(said, self.job, self._world.cache, self._world.transact)

    async def _store_checkpoint(self, epoch: int, folder: Path) -> None:
        made = await store_checkpoint(self._world.store, self.job, epoch, folder)

        async def work(uow: TrainerUnit) -> Job:
            moved = await move_held(uow, self.job.run, self.fence, lambda job: jobs.checkpointed(job, made))
            facts.announce(uow, moved, facts.checkpointed(moved, made))
            return moved

        self.job = await self._world.transact(work)
        await fp("train.T6.after")

    async def _end(self, code: int, folder: RunFolder, shipping: Shipping, uploads: CheckpointUploads) -> None:
        if code == EXIT_AGAIN:
            await self._flush_checkpoint(uploads)
        if not await shipping.flush(FLUSH_SECONDS):
            log.warning("not everything the run said reached the catalog")
        log.info("process ended", exit_code=code)
        if code == 0 and not self._stopping.is_set():
            await self._produced(folder)
        elif code == EXIT_AGAIN:
            await self._interrupted("stopped at a checkpoint")
        elif self._stopping.is_set():
            await self._interrupted("was stopped")
        else:
            await self._broke(self._why(code), code, final=code == EXIT_UNUSABLE)

    async def _flush_checkpoint(self, uploads: CheckpointUploads) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await uploads.flush()
        except (MillraceError, TimeoutError) as error:
            log.warning("last checkpoint not stored", reason=str(error))

    async def _produced(self, folder: RunFolder) -> None:
        artifact: Artifact | None = None
        if self._said.model is not None and self.job.model is not None:
            reference = folder.existing("reference.json")
            artifact = await self._stored(self._said.model, reference)
        await fp("train.T8.after")
        await fp("train.T9.before")
        metrics = {name: value for name, value in self._said.metrics.items() if abs(value) < float("inf")}
        await self._move(lambda job: jobs.produced(job, artifact, metrics, self._now()), "train.T9.during")
        if artifact is None:
            await fp("train.T9.after")

    async def _stored(self, package: Path, reference: Path | None) -> Artifact:
        delay = 0.5
        while True:
            try:
                return await store_package(self._world.store, self.job, package, reference, self._said.metrics)
            except MillraceError as error:
                if not error.transient:
                    raise
                log.warning("package not stored yet", reason=error.message)
                await self._tell(f"its package waits for the object store: {error.message}")
            await asyncio.sleep(delay)
            delay = min(delay * 2, 10.0)

    async def _tell(self, reason: str) -> None:
        await self._move(lambda job: job if job.reason == reason else jobs.told(job, reason))

    async def _interrupted(self, reason: str) -> None:
        most = self._world.rules.interruptions
        await self._move(lambda job: jobs.interrupted(job, reason, self._now(), most=most))

    async def _broke(self, reason: str, code: int | None, *, final: bool) -> None:
        rules = self._world.rules
        await self._move(lambda job: jobs.broke(job, reason, code, self._now(), attempts=rules.attempts, final=final))

    async def _move(self, move: Callable[[Job], Job], failpoint: str | None = None) -> None:
        """Record a move, however long the database is away; a lost grant ends it."""
        delay = 0.2

        async def work(uow: TrainerUnit) -> Job:
            moved = await move_held(uow, self.job.run, self.fence, move)
            if failpoint:
                await fp(failpoint)
            return moved

        while True:
            try:
                self.job = await self._world.transact(work)
            except Fenced as error:
                log.warning("grant is lost", reason=error.message)
                return
            except MillraceError as error:
                if not error.transient:
                    raise
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            else:
                if self.job.state is not State.RUNNING:
                    metrics.ENDED.labels(str(self.job.state)).inc()
                    self._world.after()
                return

    def _why(self, code: int) -> str:
        ended = f"killed by signal {-code}" if code < 0 else f"exited with {code}"
        hint = " (out of memory?)" if code == -9 else ""
        tail = " | ".join(list(self._said.errors)[-TAIL_LINES:])
        return f"the process {ended}{hint}: {tail}"[:1_500] if tail else f"the process {ended}{hint}"

    def _now(self) -> datetime:
        return self._world.clock.now()

    def _at(self) -> str:
        return self._now().isoformat()
