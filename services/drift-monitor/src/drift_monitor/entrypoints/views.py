"""How entities look over HTTP."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from drift_monitor.application.samples import Samples
from drift_monitor.domain.checkpoint import Checkpoint
from drift_monitor.domain.evaluation import Finding
from drift_monitor.domain.incidents import Incident
from drift_monitor.domain.labels import Item, LabelQueue
from drift_monitor.domain.watch import Watch
from drift_monitor.errors import SampleNotFound

View = dict[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def watch(entity: Watch) -> View:
    """Return a watched revision."""
    return {
        "revision": entity.deployment_revision,
        "model": entity.model,
        "version": entity.version,
        "dataset": entity.dataset,
        "commit": entity.commit,
        "reference": entity.reference,
        "retired": entity.retired,
    }


def deployment(entity: Watch, checkpoint: Checkpoint | None) -> View:
    """Return a deployment with its newest revision, the windows that fill, and what was spent of its allowance."""
    filling = [
        {"number": one.number, "revision": one.deployment_revision, "rows": one.pane.rows}
        for one in (checkpoint.open.values() if checkpoint else ())
    ]
    reason = None if entity.reference else "the model has no reference: nothing to compare with"
    return {
        "deployment": entity.deployment,
        "project": entity.project,
        **watch(entity),
        "reason": reason,
        "rows": checkpoint.counted if checkpoint else 0,
        "open_windows": filling,
        "incident": checkpoint.incident if checkpoint else None,
        "expected_false_alarms": checkpoint.spent if checkpoint else 0.0,
        "windows_this_month": checkpoint.month_windows if checkpoint else 0,
    }


def window(document: View) -> View:
    """Return a closed window from its document."""
    kept = ("number", "model", "version", "rows", "outcome", "alpha", "statistics", "fired", "incident")
    return {
        **{name: document[name] for name in kept},
        "revision": document["deployment_revision"],
        "alert": document["outcome"] == "alert",
        "first_at": moment(document["first_at"]),
        "last_at": moment(document["last_at"]),
        "closed_at": document["created_at"].isoformat(),
    }


def incident(entity: Incident) -> View:
    """Return an incident."""
    own = entity.watch
    return {
        "incident": entity.id,
        "project": own.project,
        "deployment": own.deployment,
        "revision": own.deployment_revision,
        "model": own.model,
        "version": own.version,
        "dataset": own.dataset,
        "commit": own.commit,
        "state": entity.state,
        "labels": entity.labels,
        "reason": entity.reason,
        "window": entity.window,
        "last_window": entity.last_window,
        "rows": entity.rows,
        "alpha": entity.alpha,
        "tests": [asdict(finding) for finding in entity.tests],
        "gathered": len(entity.candidates),
        "gathered_windows": entity.gathered_windows,
        "queue": entity.queue,
        "quiet_windows": entity.quiet,
        "seen_revision": entity.seen_revision,
    }


def incident_document(document: View) -> View:
    """Return an incident from its document, with the times that only documents have."""
    entity = Incident(
        **{
            name: document[name]
            for name in ("window", "rows", "alpha", "state", "labels", "reason", "gathered_windows", "queue", "quiet")
        },
        id=document["_id"],
        watch=Watch(**document["watch"]),
        tests=tuple(Finding(**row) for row in document["tests"]),
        seen_revision=document["seen_revision"],
        last_window=document["last_window"],
    )
    times = {"created_at": document["created_at"].isoformat(), "updated_at": document["updated_at"].isoformat()}
    return {**incident(entity), **times}


def queue(entity: LabelQueue) -> View:
    """Return a label queue without its items."""
    return {
        "queue": entity.id,
        "project": entity.project,
        "incident": entity.incident,
        "deployment": entity.deployment,
        "revision": entity.deployment_revision,
        "model": entity.model,
        "version": entity.version,
        "dataset": entity.dataset,
        "commit": entity.commit,
        "classes": list(entity.classes),
        "state": entity.state,
        "reason": entity.reason,
        "count": len(entity.items),
        "random": sum(item.kind == "random" for item in entity.items),
        "margin": sum(item.kind == "margin" for item in entity.items),
        "answered": entity.answered,
        "complete": entity.complete,
        "landed_version": entity.landed_version,
    }


async def item(entity: LabelQueue, one: Item, samples: Samples | None) -> View:
    """Return a sample; with `samples` its picture too, or null where that is gone."""
    view: View = {
        "prediction": one.prediction,
        "digest": one.digest,
        "kind": one.kind,
        "margin": one.margin,
        "predicted": one.predicted,
        "label": one.label,
        "skipped": one.skipped,
        "answered_by": one.answered_by,
        "url": f"/v1/labels/queues/{entity.id}/samples/{one.digest}",
    }
    if samples is None:
        return view
    try:
        picture = base64.b64encode(await samples.get(entity.project, one.digest)).decode()
    except SampleNotFound:
        return {**view, "image": None}
    return {**view, "image": f"data:image/png;base64,{picture}"}


def moment(microseconds: int | None) -> str | None:
    """Return an event time as ISO 8601; None where it lies outside of the calendar."""
    if microseconds is None:
        return None
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
    except OverflowError:
        return None
