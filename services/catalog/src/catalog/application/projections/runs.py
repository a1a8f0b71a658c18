"""Runs move on by what the trainer reports."""

from __future__ import annotations

from typing import Any

import structlog

from catalog.application.ports import Unit
from catalog.application.projections.requests import settle
from catalog.domain.records import edge
from catalog.domain.runs import Dropped, Fact, FactKind, Run, observe
from millrace.events import (
    AnyEvent,
    EventData,
    TrainingCancelled,
    TrainingCheckpointed,
    TrainingCompleted,
    TrainingFailed,
    TrainingPreempted,
    TrainingQueued,
    TrainingStarted,
)

log = structlog.get_logger(__name__)

KINDS: dict[type[EventData], FactKind] = {
    TrainingQueued: "queued",
    TrainingStarted: "started",
    TrainingCheckpointed: "checkpointed",
    TrainingPreempted: "preempted",
    TrainingCompleted: "completed",
    TrainingFailed: "failed",
    TrainingCancelled: "cancelled",
}

DETAILS: dict[str, tuple[str, ...]] = {
    "started": ("attempt", "node", "device", "path", "cache_hit"),
    "checkpointed": ("epoch", "manifest", "digest"),
    "completed": ("metrics", "model_version", "seconds"),
    "failed": ("exit_code",),
}


async def project_run(event: AnyEvent, *, uow: Unit) -> None:
    """Apply one report to its run. Late, stale and repeated ones are dropped; an unknown run is nobody's."""
    run = await uow.runs.get(event.data.run)
    if run is None or run.project != event.project:
        log.warning("report about an unknown run", run=event.data.run, type=event.type)
        return
    fact = _fact(event)
    seen = observe(run, fact)
    if isinstance(seen, Dropped):
        log.info("report dropped", run=run.id, type=event.type, reason=seen.why)
        return
    await uow.runs.save(seen)
    await _follow(seen, event, uow)


def _fact(event: AnyEvent) -> Fact:
    kind = KINDS[type(event.data)]
    details: dict[str, Any] = {name: getattr(event.data, name) for name in DETAILS.get(kind, ())}
    if kind == "completed" and details["model_version"] is None:
        del details["model_version"]
    return Fact(
        kind=kind,
        sequence=event.sequence,
        at=event.time,
        fence=getattr(event.data, "fence", 0),
        reason=getattr(event.data, "reason", ""),
        details=details,
    )


async def _follow(run: Run, event: AnyEvent, uow: Unit) -> None:
    target = f"run:{run.id}"
    if run.state == "completed":
        await settle(run.project, target, "done", "completed", uow=uow)
    elif run.over:
        await settle(run.project, target, "failed", run.reason or run.state, uow=uow)
    else:
        await settle(run.project, target, "requested", run.reason or run.state, uow=uow)
    if isinstance(event.data, TrainingStarted):
        node = f"cache:{event.data.site}/{run.dataset}@{run.version}"
        link = edge(run.project, node, "read", target)
        if await uow.edges.get(link.id) is None:
            await uow.edges.add(link)
