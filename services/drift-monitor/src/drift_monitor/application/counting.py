"""Counting captured rows, once each: the batch is in the checkpoint before it is acknowledged.

For every batch: find its watch, tally its new rows into the open window of its revision, store the checkpoint by
compare-and-set under the owner's fencing token, close windows that are full, then acknowledge. A crash before the store
recounts from the old state; a crash after it finds the rows marked when the batch comes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from drift_monitor.application import meters
from drift_monitor.application.closing import Closing
from drift_monitor.application.ports import Baselines, Delivery, MonitorUnitOfWork, Painter, Repositories, Tap
from drift_monitor.application.samples import Samples
from drift_monitor.application.tallying import Tallier
from drift_monitor.application.watching import WatchBook
from drift_monitor.domain.baseline import Baseline
from drift_monitor.domain.checkpoint import Checkpoint, checkpoint_id
from drift_monitor.domain.window import Window
from drift_monitor.errors import ReferenceInvalid, WatchMissing
from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.errors import Conflict, Fenced, Invalid, MillraceError
from millrace.failpoints import fp
from millrace.inference import InferenceBatch, decode_batch
from millrace.leases import Lease

log = structlog.get_logger(__name__)

MAX_HELD_BYTES = 256 * 1024
"""Pictures held in a checkpoint, per window; beyond it they become objects at once."""
MAX_CLOSING = 8
"""Windows that may wait for their verdict before counting pauses: it bounds the checkpoint."""
MAX_FAILURES = 5
"""Failures of a kind that does not pass before the batches are refused."""
MAX_PAUSE = 5.0
IDLE_FETCHES = 5
"""Fetches in a row without a batch before short windows of retired revisions are closed."""
MAX_RETRY_DELAY = 15.0


@dataclass(frozen=True, slots=True)
class CountingConfig:
    """How rows become windows, and how long an announcement may be late."""

    window_rows: int
    unwatched_attempts: int = 20
    """Deliveries of a batch of an unknown revision before its rows are given up: about 200 s with growing delays."""


@dataclass(frozen=True, slots=True)
class _Parsed:
    delivery: Delivery
    batch: InferenceBatch


class Counting:
    """Owns the checkpoints while it leads."""

    def __init__(
        self,
        transact: Transact[MonitorUnitOfWork],
        kept: Repositories,
        *,
        watches: WatchBook,
        baselines: Baselines,
        painter: Painter,
        samples: Samples,
        closing: Closing,
        config: CountingConfig,
        clock: Clock,
    ) -> None:
        self._transact = transact
        self._kept = kept
        self._watches = watches
        self._baselines = baselines
        self._painter = painter
        self._samples = samples
        self._closing = closing
        self._config = config
        self._clock = clock
        self._states: dict[str, Checkpoint] = {}

    async def lead(self, lease: Lease, tap: Tap) -> None:
        """Take over all checkpoints, finish what is half closed, then count for ever.

        Raises:
            Fenced: another process leads.
        """
        self._states.clear()
        for checkpoint in await self._kept.checkpoints.every():
            await self._take_over(checkpoint, lease)
        idle = 0
        async with aclosing(tap.batches()) as fetches:
            async for deliveries in fetches:
                idle = 0 if deliveries else idle + 1
                await self.take(lease, deliveries)
                if idle >= IDLE_FETCHES:
                    idle = 0
                    await self.retire()

    async def _take_over(self, checkpoint: Checkpoint, lease: Lease) -> None:
        if checkpoint.token > lease.token:
            raise Fenced(f"checkpoint {checkpoint.id} has a newer owner")
        self._states[checkpoint.id] = await self._save(replace(checkpoint, token=lease.token))
        await self._finish(checkpoint.id)

    async def _finish(self, key: str) -> None:
        """Close what is closing, if the reference can be had; else it is tried with the next batch."""
        try:
            self._states[key] = await self._closing.close_all(self._states[key])
        except (Conflict, WatchMissing) as error:
            del self._states[key]
            if isinstance(error, Fenced):
                raise
            log.warning("windows stay open", checkpoint=key, reason=error.message)

    async def take(self, lease: Lease, deliveries: Sequence[Delivery]) -> None:
        """Count one fetch of deliveries, deployment by deployment, and settle each of them.

        Raises:
            Fenced: another process leads.
        """
        await fp("drift.M1.before")
        groups: dict[str, list[_Parsed]] = {}
        for delivery in deliveries:
            parsed = await self._parse(delivery)
            if parsed is not None:
                header = parsed.batch.header
                groups.setdefault(checkpoint_id(header.project, header.deployment), []).append(parsed)
        await fp("drift.M1.after")
        for key, group in groups.items():
            await self._take_group(key, group, lease)

    async def _parse(self, delivery: Delivery) -> _Parsed | None:
        try:
            return _Parsed(delivery, decode_batch(delivery.raw, subject=delivery.subject))
        except MillraceError as error:
            await self._refuse(delivery, error)
            return None

    async def _take_group(self, key: str, group: list[_Parsed], lease: Lease) -> None:
        """Count and settle. While a dependency is away this tries again and again, so that no delivery is used up."""
        pending = list(group)
        failures = 0
        while pending:
            try:
                await self._count_group(key, pending, lease)
            except Fenced:
                raise
            except MillraceError as error:
                self._states.pop(key, None)
                failures += 1
                log.warning("batches are not counted yet", checkpoint=key, code=error.code, reason=error.message)
                if not error.transient and failures >= MAX_FAILURES:
                    for parsed in pending:
                        await self._refuse(parsed.delivery, error)
                    return
                await self._clock.sleep(min(0.05 * 2**failures, MAX_PAUSE))

    async def _count_group(self, key: str, pending: list[_Parsed], lease: Lease) -> None:
        """Count all of `pending`; what is settled leaves the list."""
        counted: list[_Parsed] = []
        for parsed in list(pending):
            baseline = await self._baseline(parsed)
            if baseline is None:
                pending.remove(parsed)
                continue
            try:
                await self._absorb(key, parsed, baseline, lease)
            except Invalid as error:
                pending.remove(parsed)
                await self._refuse(parsed.delivery, error)
                continue
            counted.append(parsed)
        await self._store(key)
        await self._close(key)
        await fp("drift.M6.before")
        for parsed in counted:
            await parsed.delivery.ack()
            pending.remove(parsed)
            meters.BATCHES.labels("counted").inc()
        await fp("drift.M6.after")

    async def _baseline(self, parsed: _Parsed) -> Baseline | None:
        """Return what to compare a batch with; None if the delivery was settled instead."""
        delivery, header = parsed.delivery, parsed.batch.header
        try:
            watch = await self._watches.find(header)
            if watch.digest != header.digest:
                raise ReferenceInvalid(f"batch of {watch.id} is answered by another model than the one announced")
            if watch.reference is not None:
                baseline = await self._baselines.load(watch.reference)
                _check_shape(parsed.batch, baseline)
                return baseline
        except WatchMissing as error:
            if delivery.attempts < self._config.unwatched_attempts:
                await delivery.retry(min(0.5 * 1.5**delivery.attempts, MAX_RETRY_DELAY))
                return None
            await self._refuse(delivery, error)
            return None
        except MillraceError as error:
            if error.transient:
                raise
            await self._refuse(delivery, error)
            return None
        await delivery.ack()
        meters.ROWS.labels("unreferenced").inc(len(parsed.batch))
        return None

    async def _absorb(self, key: str, parsed: _Parsed, baseline: Baseline, lease: Lease) -> None:
        """Add a batch to the state in memory; a large one in steps, so that few windows wait at once."""
        batch, size = parsed.batch, self._config.window_rows
        header = batch.header
        tallier = Tallier(batch, baseline, painter=self._painter)
        step = size * (MAX_CLOSING - 1)
        for start in range(0, len(batch), step):
            state = await self._state(key, header.project, header.deployment, lease)
            rows = min(step, len(batch) - start)
            after = state.absorb(
                header.revision,
                f"{header.worker}/{header.boot}",
                header.seq0 + start,
                rows,
                size=size,
                tally=tallier.after(start),
            )
            fresh = after.counted - state.counted
            meters.ROWS.labels("counted").inc(fresh)
            meters.ROWS.labels("repeated").inc(rows - fresh)
            self._states[key] = replace(after, last_seq=max(after.last_seq, parsed.delivery.sequence), dirty=True)
            if len(after.closing) >= MAX_CLOSING - 1:
                await self._store(key)
                await self._close(key)

    async def _state(self, key: str, project: str, deployment: str, lease: Lease) -> Checkpoint:
        if key in self._states:
            return self._states[key]
        found = await self._kept.checkpoints.get(project, deployment)
        if found is not None and found.token > lease.token:
            raise Fenced(f"checkpoint {key} has a newer owner")
        state = replace(found, token=lease.token) if found else Checkpoint(project, deployment, lease.token)
        self._states[key] = state
        return state

    async def _store(self, key: str) -> None:
        """Write the checkpoint, if it has anything new: from here on its rows are counted."""
        state = self._states.get(key)
        if state is None or not state.dirty:
            return
        state = await self._lighten(state)
        await fp("drift.M2.before")
        self._states[key] = await self._save(replace(state, dirty=False))
        await fp("drift.M2.after")

    async def _close(self, key: str) -> None:
        state = self._states.get(key)
        if state is not None and state.closing:
            self._states[key] = await self._closing.close_all(state)

    async def _save(self, checkpoint: Checkpoint) -> Checkpoint:
        return await self._transact(lambda uow: uow.checkpoints.save(checkpoint))

    async def _lighten(self, state: Checkpoint) -> Checkpoint:
        """Turn the pictures of windows that hold too many bytes into objects."""
        opened = {revision: await self._lighter(state, window) for revision, window in state.open.items()}
        closing = [await self._lighter(state, window) for window in state.closing]
        return replace(state, open=opened, closing=tuple(closing))

    async def _lighter(self, state: Checkpoint, window: Window) -> Window:
        pools = window.pane.pools
        if pools.held_bytes <= MAX_HELD_BYTES:
            return window
        await self._samples.store(state.project, (*pools.random, *pools.margin))
        return replace(window, pane=replace(window.pane, pools=pools.released()))

    async def retire(self) -> None:
        """Close the open windows of revisions that serve no more, full or not, once nothing came for a while."""
        for key, state in list(self._states.items()):
            for revision in list(state.open):
                watch = await self._kept.watches.get(state.project, state.deployment, revision)
                if watch is not None and watch.retired:
                    self._states[key] = await self._save(self._states[key].retire(revision))
                    await self._finish(key)

    async def _refuse(self, delivery: Delivery, error: MillraceError) -> None:
        log.warning("batch refused", subject=delivery.subject, code=error.code, reason=error.message)
        meters.BATCHES.labels("refused").inc()
        await delivery.refuse(error)


def _check_shape(batch: InferenceBatch, baseline: Baseline) -> None:
    """Raise unless the batch has the shapes that the reference was made from."""
    wanted, found = _squeezed(baseline.reference.shape), _squeezed(batch.inputs.shape[1:])
    if wanted != found:
        raise ReferenceInvalid(f"rows of shape {found} do not fit a reference of shape {wanted}")
    if batch.outputs.shape[1] != len(baseline.classes):
        raise ReferenceInvalid(f"{batch.outputs.shape[1]} scores do not fit {len(baseline.classes)} classes")


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
