"""An incident asks people, once: enough samples were gathered, so one label queue is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from blake3 import blake3

from drift_monitor.application.ports import Baselines, MonitorUnitOfWork, Repositories, Versions
from drift_monitor.domain.incidents import ASKED, GATHERING, NOT_ASKED, OPEN, Incident
from drift_monitor.domain.labels import Item, LabelQueue
from drift_monitor.domain.selection import Selection, select
from millrace.documents.ports import Transact
from millrace.errors import Conflict, MillraceError
from millrace.events import LabelsRequested, decode, encode
from millrace.objects import ObjectStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AskingConfig:
    """When and how much is asked."""

    size: int = 150
    """Most items of a queue; it is made as soon as later windows fill both halves."""
    gather_windows: int = 6
    """Alerting windows after the first, after which a smaller queue is made too, the first window's samples with it."""
    least: int = 20
    """Fewest items that are worth asking for."""
    cooldown_windows: int = 20
    """Windows of a deployment from one request for labels to the next."""


class Asking:
    """Turns gathering incidents into label queues; safe to run anywhere, any number of times."""

    def __init__(
        self,
        transact: Transact[MonitorUnitOfWork],
        kept: Repositories,
        *,
        baselines: Baselines,
        versions: Versions,
        objects: ObjectStore,
        config: AskingConfig,
        on_asked: Callable[[], None] = lambda: None,
    ) -> None:
        self._transact = transact
        self._kept = kept
        self._baselines = baselines
        self._versions = versions
        self._objects = objects
        self._config = config
        self._on_asked = on_asked

    async def step(self) -> None:
        """Look at every gathering incident."""
        for incident in await self._kept.incidents.gathering():
            try:
                await self._consider(incident)
            except Conflict:
                log.info("incident changed meanwhile", incident=incident.id)
            except MillraceError as error:
                if error.transient:
                    raise
                log.warning("no labels can be asked for", incident=incident.id, reason=error.message)
                await self._note(incident, NOT_ASKED, f"no labels can be asked for: {error.message}")

    async def _consider(self, incident: Incident) -> None:
        cooling = await self._cooling(incident)
        if cooling is not None:
            await self._note(incident, GATHERING, cooling)
            return
        watch, config = incident.watch, self._config
        later = [one for one in incident.candidates if one.window > incident.window]
        waited = incident.gathered_windows >= config.gather_windows
        if not waited and len(later) < config.size:
            return
        known = await self._versions.digests(watch.project, watch.commit)
        selection = select(later, excluded=known, size=config.size, opened=incident.window)
        if not selection.full(config.size):
            if not waited:
                return
            selection = select(incident.candidates, excluded=known, size=config.size, opened=incident.window)
        if len(selection.items) < config.least:
            await self._note(incident, GATHERING, f"only {len(selection.items)} distinct samples were seen so far")
            return
        await self._ask(incident, selection)

    async def _cooling(self, incident: Incident) -> str | None:
        last = await self._kept.incidents.last_asked(incident.watch.project, incident.watch.deployment)
        if last is None or incident.last_window - last >= self._config.cooldown_windows:
            return None
        return f"labels were asked for at window {last}; again from window {last + self._config.cooldown_windows} on"

    async def _note(self, incident: Incident, labels: str, reason: str) -> None:
        """Write down why an incident waits, unless that stands there already."""
        if (incident.labels, incident.reason) != (labels, reason):
            noted = replace(incident, labels=labels, reason=reason)
            await self._transact(lambda uow: uow.incidents.save(noted))

    async def _ask(self, incident: Incident, selection: Selection) -> None:
        watch = incident.watch
        baseline = await self._baselines.load(watch.reference or "")
        items = tuple(
            Item(
                prediction=one.prediction,
                digest=one.digest,
                kind=one.kind,
                margin=one.margin,
                predicted=_class(baseline.classes, one.predicted),
                window=one.window,
            )
            for one in selection.items
        )
        queue = LabelQueue(
            id=queue_id(incident.id),
            project=watch.project,
            incident=incident.id,
            deployment=watch.deployment,
            deployment_revision=watch.deployment_revision,
            model=watch.model,
            version=watch.version,
            dataset=watch.dataset,
            commit=watch.commit,
            classes=baseline.classes,
            items=items,
            items_key=await self._publish_items(watch.project, items),
        )
        await self._transact(lambda uow: self._record(incident, queue, uow))
        self._on_asked()
        log.info("labels requested", incident=incident.id, queue=queue.id, items=len(items))

    async def _publish_items(self, project: str, items: tuple[Item, ...]) -> str:
        """Store the list of items for whoever hears the event, named by its digest."""
        listed = [{"prediction": item.prediction, "digest": item.digest, "kind": item.kind} for item in items]
        raw = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()
        key = f"{project}/labels/{blake3(raw).hexdigest()}.json"
        await self._objects.put(key, raw, create_only=True)
        return key

    async def _record(self, incident: Incident, queue: LabelQueue, uow: MonitorUnitOfWork) -> None:
        """Write queue, incident and event, unless the incident asked or ended meanwhile."""
        current = await uow.incidents.get(incident.id)
        if current is None or current.labels != GATHERING or current.state != OPEN:
            raise Conflict(f"incident {incident.id} does not gather any more")
        watch = incident.watch
        random = sum(item.kind == "random" for item in queue.items)
        data = LabelsRequested(
            incident=incident.id,
            deployment=watch.deployment,
            revision=watch.deployment_revision,
            model=watch.model,
            version=watch.version,
            dataset=watch.dataset,
            commit=watch.commit,
            queue=queue.id,
            count=len(queue.items),
            random=random,
            margin=len(queue.items) - random,
            items=queue.items_key,
        )
        event = uow.emit(
            data, project=queue.project, subject=queue.id, sequence=queue.revision, cause=decode(incident.cause)
        )
        await uow.queues.add(replace(queue, cause=encode(event)))
        asked = replace(
            current,
            labels=ASKED,
            reason="people are asked",
            queue=queue.id,
            asked_window=current.last_window,
            candidates=(),
        )
        await uow.incidents.save(asked)
        detail = {"incident": incident.id, "items": len(queue.items)}
        uow.audit("drift-monitor", "labels.request", queue.id, queue.project, detail)


def queue_id(incident: str) -> str:
    """Return the id of an incident's queue: one incident, one queue."""
    return incident.replace("inc-", "queue-", 1)


def _class(classes: tuple[str, ...], index: int) -> str:
    return classes[index] if 0 <= index < len(classes) else "?"
