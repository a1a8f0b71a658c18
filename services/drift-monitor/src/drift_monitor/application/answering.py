"""People answer; the last answer of a queue lets its samples land as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from drift_monitor.application import meters
from drift_monitor.application.ports import MonitorUnitOfWork, Repositories
from drift_monitor.application.samples import Samples
from drift_monitor.domain import incidents as stages
from drift_monitor.domain.labels import ANSWERED, LANDED, Item, LabelQueue, answer, landing_path
from drift_monitor.errors import AnswerInvalid, QueueNotFound, SampleNotFound
from millrace.documents.ports import Transact
from millrace.errors import Conflict, MillraceError
from millrace.events import DataLanded, LabelsSubmitted, Lineage, decode, encode
from millrace.objects import ObjectStore

log = structlog.get_logger(__name__)


async def submit_answers(
    project: str, queue_id: str, answers: Mapping[str, str | None], *, by: str, uow: MonitorUnitOfWork
) -> LabelQueue:
    """Take answers (prediction → class, None for "cannot tell"), all or none; repeated ones change nothing.

    Raises:
        QueueNotFound, SampleNotFound, AnswerInvalid, AnswerConflict: what their names say.
    """
    queue = await uow.queues.get(queue_id)
    if queue is None or queue.project != project:
        raise QueueNotFound(f"no label queue {queue_id[:80]!r}")
    told = answer(queue, answers, by)
    if told is queue:
        return queue
    data = LabelsSubmitted(
        queue=queue.id,
        incident=queue.incident,
        dataset=queue.dataset,
        answered=told.answered,
        complete=told.complete,
    )
    event = uow.emit(
        data,
        project=project,
        subject=queue.id,
        sequence=queue.revision + 1,
        cause=decode(queue.cause),
        principal=by,
    )
    stored = await uow.queues.save(replace(told, cause=encode(event)) if told.complete else told)
    if told.complete:
        await _advance(queue.incident, stages.ANSWERED, "labels are being written", uow)
    given = told.answered - queue.answered
    uow.audit(by, "labels.submit", queue.id, project, {"answers": given, "complete": told.complete})
    uow.after_commit(lambda: meters.LABELS.labels("answered").inc(given))
    return stored


async def _advance(incident_id: str, labels: str, reason: str, uow: MonitorUnitOfWork) -> None:
    incident = await uow.incidents.get(incident_id)
    if incident is not None:
        await uow.incidents.save(replace(incident, labels=labels, reason=reason))


class Landing:
    """Writes the labelled samples of answered queues to the landing zone and says so, once per queue."""

    def __init__(
        self,
        transact: Transact[MonitorUnitOfWork],
        kept: Repositories,
        *,
        samples: Samples,
        objects: ObjectStore,
        place: str,
        on_landed: Callable[[], None] = lambda: None,
    ) -> None:
        self._transact = transact
        self._kept = kept
        self._samples = samples
        self._objects = objects
        self._place = place
        self._on_landed = on_landed

    async def step(self) -> None:
        """Land every queue that is answered; one that cannot land says why and does not hold up others."""
        for queue in await self._kept.queues.in_state(ANSWERED):
            try:
                await self._land(queue)
            except Conflict:
                log.info("queue changed meanwhile", queue=queue.id)
            except MillraceError as error:
                if error.transient:
                    raise
                await self._note(queue, f"labels cannot be written: {error.message}")

    async def _note(self, queue: LabelQueue, reason: str) -> None:
        if queue.reason != reason:
            log.warning("labels do not land", queue=queue.id, reason=reason)
            noted = replace(queue, reason=reason)
            await self._transact(lambda uow: uow.queues.save(noted))

    async def _land(self, queue: LabelQueue) -> None:
        prefix = f"{queue.project}/landing/{queue.id}/"
        landed, lost = 0, 0
        for item in queue.items:
            if item.label is not None:
                written = await self._write(queue, item, prefix)
                landed, lost = landed + written, lost + (not written)
        reason = f"{landed} labelled samples landed" + (f", {lost} pictures were gone" if lost else "")
        await self._transact(lambda uow: self._record(queue, prefix, landed, reason, uow))
        self._on_landed()
        log.info("labels landed", queue=queue.id, samples=landed, lost=lost)

    async def _write(self, queue: LabelQueue, item: Item, prefix: str) -> bool:
        """Write one sample; False if its picture is gone."""
        try:
            path = landing_path(queue, item)
            await self._objects.put(prefix + path, await self._samples.get(queue.project, item.digest))
        except SampleNotFound:
            return False
        return True

    async def _record(self, queue: LabelQueue, prefix: str, landed: int, reason: str, uow: MonitorUnitOfWork) -> None:
        current = await uow.queues.get(queue.id)
        if current is None or current.state != ANSWERED:
            raise Conflict(f"queue {queue.id} landed already")
        stored = await uow.queues.save(replace(current, state=LANDED, reason=reason))
        await _advance(queue.incident, stages.LANDED, reason, uow)
        uow.audit("drift-monitor", "labels.land", queue.id, queue.project, {"samples": landed})
        if landed == 0:
            return
        data = DataLanded(
            dataset=queue.dataset,
            uri=f"{self._place}/{prefix}",
            mode="append",
            message=f"{landed} labelled samples of {queue.incident}",
            lineage=Lineage(
                source=f"millrace:labels/{queue.id}", incident=queue.incident, queue=queue.id, parent=queue.commit
            ),
        )
        uow.emit(data, project=queue.project, subject=queue.id, sequence=stored.revision, cause=decode(current.cause))


__all__ = ["AnswerInvalid", "Landing", "submit_answers"]
