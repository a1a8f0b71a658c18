"""Entities as the JSON that the API shows: plain values, no ids that mean nothing outside."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime
from typing import Any

from catalog.domain.collections import Collection, Garbage
from catalog.domain.datasets import Dataset, Removal, Version
from catalog.domain.deployments import Deployment, Desired
from catalog.domain.encryption import Encryption
from catalog.domain.metrics import LogLine, Point
from catalog.domain.models import Model, ModelVersion
from catalog.domain.operations import Operation
from catalog.domain.policies import Execution, Policy
from catalog.domain.records import AuditRow, DeadLetter, LogRow
from catalog.domain.runs import Run
from catalog.domain.tokens import Token

View = dict[str, Any]


def when(moment: datetime | None) -> str | None:
    """Return a time as RFC 3339 text."""
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def number(value: float) -> float | str:
    """Return a number as JSON can carry it: what is not finite becomes `NaN`, `Infinity` or `-Infinity`."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def numbers(values: dict[str, float]) -> dict[str, float | str]:
    """Return named numbers as JSON can carry them."""
    return {name: number(value) for name, value in values.items()}


def dataset(item: Dataset) -> View:
    """Return a dataset."""
    return {
        "project": item.project,
        "name": item.name,
        "description": item.description,
        "head": asdict(item.head) if item.head else None,
        "checks": bool(item.checks),
        "removed": removal(item.removed),
        "retired": item.retired,
        "revision": item.revision,
        "created_by": item.created_by,
        "created_at": when(item.created_at),
    }


def version(item: Version) -> View:
    """Return a dataset version."""
    return {
        "project": item.project,
        "dataset": item.dataset,
        "version": item.version,
        "commit": item.commit,
        "parent": item.parent,
        "tree_root": item.tree_root,
        "manifest": item.manifest,
        "files": item.files,
        "bytes": item.bytes,
        "packs": len(item.packs),
        "author": item.author,
        "message": item.message,
        "lineage": item.lineage,
        "records": item.records,
        "checks": item.checks,
        "created_at": when(item.created_at),
        "removed": removal(item.removed),
    }


def removal(item: Removal | None) -> View | None:
    """Return who removed something, when and why."""
    return {"at": when(item.at), "by": item.by, "reason": item.reason} if item else None


def garbage(item: Garbage, cutoff: datetime) -> View:
    """Return what a collection would take."""
    return {
        "cutoff": when(cutoff),
        "kinds": {kind: asdict(tally) for kind, tally in sorted(item.by_kind().items())},
        "objects": len(item.objects),
        "bytes": sum(one.size for one in item.objects),
        "kept": asdict(item.kept),
        "too_young": asdict(item.young),
    }


def collection(item: Collection | None) -> View | None:
    """Return how far a garbage collection is."""
    if item is None:
        return None
    return {
        "project": item.project,
        "state": item.state,
        "reason": item.reason,
        "asked_by": item.asked_by,
        "asked_at": when(item.asked_at),
        "cutoff": when(item.cutoff),
        "condemned": asdict(item.condemned),
        "swept": asdict(item.swept),
        "ended_at": when(item.ended_at),
    }


def encryption(project: str, item: Encryption | None) -> View:
    """Return whether a project is encrypted, without its key."""
    sealed = item is not None and item.sealed
    return {
        "project": project,
        "encrypted": sealed,
        "settled": item is not None,
        "key_id": item.key_id if item is not None and sealed else None,
        "settled_by": item.settled_by if item is not None else None,
        "settled_at": when(item.settled_at) if item is not None else None,
    }


def policy(item: Policy) -> View:
    """Return a policy."""
    return {
        "project": item.project,
        "name": item.name,
        "on": item.on,
        "document": item.document,
        "revision": item.revision,
        "created_by": item.created_by,
        "updated_at": when(item.updated_at),
    }


def execution(item: Execution) -> View:
    """Return one execution of a policy."""
    return {
        "policy": item.policy,
        "policy_revision": item.policy_revision,
        "event": item.event,
        "event_type": item.event_type,
        "correlation": item.correlation,
        "requests": [
            {"kind": it.kind, "target": it.target, "state": it.state, "reason": it.reason, "spec": it.spec}
            for it in item.requests
        ],
        "created_at": when(item.created_at),
    }


def run(item: Run) -> View:
    """Return a run; `latest` is the newest value of each metric, `metrics` what the trainer reported at the end."""
    return {
        "project": item.project,
        "run": item.id,
        "state": item.state,
        "reason": item.reason,
        "dataset": item.dataset,
        "version": item.version,
        "commit": item.commit,
        "site": item.site,
        "component": item.component,
        "model": item.model,
        "model_version": item.model_version,
        "params": item.params,
        "gpus": item.gpus,
        "priority": item.priority,
        "experiment": item.experiment,
        "mode": item.mode,
        "paths": list(item.paths),
        "early": item.early,
        "created_by": item.created_by,
        "created_at": when(item.created_at),
        "correlation": item.correlation,
        "cause": item.cause,
        "attempt": item.attempt,
        "fence": item.fence,
        "node": item.node,
        "device": item.device,
        "path": item.path,
        "cache_hit": item.cache_hit,
        "started_at": when(item.started_at),
        "ended_at": when(item.ended_at),
        "seconds": item.seconds,
        "exit_code": item.exit_code,
        "checkpoint": item.checkpoint or None,
        "stages": [{"code": it.code, "message": it.message, "at": when(it.at)} for it in item.stages],
        "latest": numbers(item.latest),
        "latest_steps": item.latest_steps,
        "metrics": numbers(item.metrics),
        "revision": item.revision,
    }


def point(item: Point) -> View:
    """Return a metric point."""
    return {"key": item.key, "step": item.step, "value": number(item.value), "at": when(item.at)}


def line(item: LogLine) -> View:
    """Return a log line."""
    return {
        "fence": item.fence,
        "offset": item.offset,
        "at": when(item.at),
        "stream": item.stream,
        "line": item.line,
    }


def model(item: Model) -> View:
    """Return a model."""
    return {
        "project": item.project,
        "name": item.name,
        "latest": item.latest or None,
        "aliases": item.aliases,
        "revision": item.revision,
        "created_at": when(item.created_at),
    }


def model_version(item: ModelVersion, aliases: list[str]) -> View:
    """Return a model version with the aliases that name it."""
    return {
        "project": item.project,
        "model": item.model,
        "version": item.version,
        "run": item.run,
        "digest": item.digest,
        "prefix": item.prefix,
        "uri": item.uri,
        "files": [{"path": it.path, "digest": it.digest, "size": it.size} for it in item.files],
        "framework": item.framework,
        "signature": item.signature,
        "metrics": numbers(item.metrics),
        "dataset": item.dataset,
        "dataset_version": item.dataset_version,
        "commit": item.commit,
        "reference": item.reference,
        "aliases": aliases,
        "created_by": item.created_by,
        "created_at": when(item.created_at),
    }


def _desired(item: Desired) -> View:
    return {
        "revision": item.revision,
        "presence": item.presence,
        "model": item.model,
        "version": item.version,
        "digest": item.digest,
        "prefix": item.prefix,
        "dataset": item.dataset,
        "commit": item.commit,
        "reference": item.reference,
        "reason": item.reason,
        "by": item.by,
        "at": when(item.at),
        "cause": item.cause,
    }


def deployment(item: Deployment) -> View:
    """Return a deployment: desired by us, observed by serving; `revision` is the wish's."""
    seen = item.observed
    return {
        "project": item.project,
        "name": item.name,
        "revision": item.desired.revision,
        "settled": item.settled,
        "desired": _desired(item.desired),
        "observed": {
            "state": seen.state,
            "revision": seen.revision,
            "serving": seen.serving,
            "model": seen.serving_model,
            "version": seen.serving_version,
            "backend_model": seen.backend_model,
            "route_epoch": seen.route_epoch,
            "golden_error": seen.golden_error,
            "seconds": seen.seconds,
            "reason": seen.reason,
            "as_of": when(seen.at),
        },
        "history": [_desired(it) for it in item.history[-20:]],
        "created_at": when(item.created_at),
    }


def operation(item: Operation) -> View:
    """Return an operation."""
    return {
        "operation": item.id,
        "project": item.project,
        "state": item.state,
        "reason": item.reason,
        "type": item.type,
        "source": item.source,
        "id": item.external_id,
        "event": item.event or None,
        "dataset": item.dataset or None,
        "job": item.job,
        "result": item.result,
        "created_at": when(item.created_at),
        "updated_at": when(item.updated_at),
    }


def log_row(item: LogRow) -> View:
    """Return an event as it travelled, with its place in the log."""
    return {"position": item.position, "event": json.loads(item.raw)}


def audit_row(item: AuditRow) -> View:
    """Return an audit row."""
    return {
        "id": item.id,
        "at": when(item.at),
        "project": item.project,
        "principal": item.principal,
        "action": item.action,
        "resource": item.resource,
        "detail": item.detail,
        "position": item.link.position if item.link else None,
        "digest": item.link.digest if item.link else None,
    }


def dead_letter(item: DeadLetter, *, body: bool = False) -> View:
    """Return a dead letter; `body` adds its bytes, as text where they are text."""
    view: View = {
        "id": item.id,
        "project": item.project,
        "service": item.service,
        "durable": item.durable,
        "subject": item.subject,
        "stream": item.stream,
        "sequence": item.sequence,
        "reason": item.reason,
        "error": item.error,
        "attempts": item.attempts,
        "correlation": item.correlation,
        "event": item.event,
        "type": item.type,
        "size": len(item.raw),
        "at": when(item.at),
        "state": item.state,
        "replays": item.replays,
        "replayed_at": when(item.replayed_at),
        "replayed_by": item.replayed_by,
    }
    if body:
        view["headers"] = item.headers
        view["body"] = item.raw.decode("utf-8", "backslashreplace")
    return view


def token(item: Token) -> View:
    """Return a token without its hash."""
    return {
        "id": item.id,
        "project": item.project,
        "principal": item.principal,
        "kind": item.kind,
        "roles": list(item.roles),
        "scopes": list(item.scopes) if item.scopes is not None else None,
        "description": item.description,
        "created_by": item.created_by,
        "created_at": when(item.created_at),
        "expires_at": when(item.expires_at),
        "last_used_at": when(item.last_used_at),
        "revoked_at": when(item.revoked_at),
    }
