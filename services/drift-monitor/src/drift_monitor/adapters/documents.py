"""Entities as MongoDB documents, and back. Counts are arrays of integers, so that a person can read them."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from drift_monitor.application.ports import ClosedWindow
from drift_monitor.domain.checkpoint import Checkpoint
from drift_monitor.domain.evaluation import Finding
from drift_monitor.domain.exemplars import Exemplar, Pools
from drift_monitor.domain.incidents import Incident
from drift_monitor.domain.labels import Item, LabelQueue
from drift_monitor.domain.marks import Mark, Marks
from drift_monitor.domain.selection import RANDOM, Candidate
from drift_monitor.domain.watch import Watch
from drift_monitor.domain.window import Pane, Window

Document = dict[str, Any]
SCHEMA_VERSION = 1
_PLAIN = (
    "project",
    "deployment",
    "token",
    "revision",
    "last_seq",
    "next_window",
    "counted",
    "month",
    "month_windows",
    "spent",
    "incident",
)


def watch_document(watch: Watch) -> Document:
    """Return a watch as a document."""
    return {"_id": watch.id, "schema_version": SCHEMA_VERSION, **asdict(watch)}


def watch_entity(document: Document) -> Watch:
    """Return the watch in a document."""
    return Watch(**{field.name: document[field.name] for field in fields(Watch)})


def checkpoint_document(checkpoint: Checkpoint) -> Document:
    """Return a checkpoint as a document, without its id and revision."""
    return {
        "project": checkpoint.project,
        "deployment": checkpoint.deployment,
        "schema_version": SCHEMA_VERSION,
        "token": checkpoint.token,
        "last_seq": checkpoint.last_seq,
        "batches": checkpoint.marks.batches,
        "producers": [
            {"producer": name, "next": mark.next, "gaps": [list(gap) for gap in mark.gaps], "touched": mark.touched}
            for name, mark in checkpoint.marks.producers.items()
        ],
        "open": [_window_document(window) for window in checkpoint.open.values()],
        "closing": [_window_document(window) for window in checkpoint.closing],
        "next_window": checkpoint.next_window,
        "counted": checkpoint.counted,
        "month": checkpoint.month,
        "month_windows": checkpoint.month_windows,
        "spent": checkpoint.spent,
        "incident": checkpoint.incident,
    }


def checkpoint_entity(document: Document) -> Checkpoint:
    """Return the checkpoint in a document."""
    producers = {
        row["producer"]: Mark(row["next"], tuple((low, high) for low, high in row["gaps"]), row["touched"])
        for row in document["producers"]
    }
    windows = [_window_entity(row) for row in document["open"]]
    return Checkpoint(
        **{name: document[name] for name in _PLAIN},
        marks=Marks(producers, document["batches"]),
        open={window.deployment_revision: window for window in windows},
        closing=tuple(_window_entity(row) for row in document["closing"]),
    )


def _window_document(window: Window) -> Document:
    pane = window.pane
    return {
        "number": window.number,
        "deployment_revision": window.deployment_revision,
        "rows": pane.rows,
        "counts": {name: counts.tolist() for name, counts in pane.counts.items()},
        "first_at": pane.first_at,
        "last_at": pane.last_at,
        "random": [asdict(one) for one in pane.pools.random],
        "margin": [asdict(one) for one in pane.pools.margin],
    }


def _window_entity(document: Document) -> Window:
    pools = Pools(
        tuple(Exemplar(**row) for row in document["random"]), tuple(Exemplar(**row) for row in document["margin"])
    )
    counts = {name: np.array(values, dtype=np.int64) for name, values in document["counts"].items()}
    pane = Pane(document["rows"], counts, document["first_at"], document["last_at"], pools)
    return Window(document["number"], document["deployment_revision"], pane)


def closed_document(closed: ClosedWindow) -> Document:
    """Return a closed window as a document. Its exemplars are pointers; the pictures are objects, or gone."""
    window, pane = closed.window, closed.window.pane
    random, margin = pane.pools.chosen()
    pointers = [
        {"prediction": one.prediction, "digest": one.digest, "margin": one.margin, "kind": kind}
        for kind, pool in ((RANDOM, random), ("margin", margin))
        for one in pool
    ]
    return {
        "_id": f"{closed.project}/{closed.deployment}/{window.number}",
        "project": closed.project,
        "deployment": closed.deployment,
        "revision": 1,
        "schema_version": SCHEMA_VERSION,
        "number": window.number,
        "deployment_revision": window.deployment_revision,
        "model": closed.model,
        "version": closed.version,
        "rows": pane.rows,
        "first_at": pane.first_at,
        "last_at": pane.last_at,
        "counts": {name: counts.tolist() for name, counts in pane.counts.items()},
        "outcome": closed.verdict.outcome,
        "alpha": closed.verdict.alpha,
        "statistics": [asdict(finding) for finding in closed.findings],
        "fired": [f"{finding.feature}/{finding.test}" for finding in closed.verdict.fired],
        "incident": closed.incident,
        "exemplars": pointers,
    }


def incident_document(incident: Incident) -> Document:
    """Return an incident as a document, without its id and revision."""
    document = asdict(incident)
    del document["id"], document["revision"]
    document |= {"project": incident.watch.project, "deployment": incident.watch.deployment}
    return {**document, "schema_version": SCHEMA_VERSION}


def incident_entity(document: Document) -> Incident:
    """Return the incident in a document."""
    known = {field.name: document[field.name] for field in fields(Incident) if field.name in document}
    known |= {
        "id": document["_id"],
        "watch": Watch(**document["watch"]),
        "tests": tuple(Finding(**row) for row in document["tests"]),
        "candidates": tuple(Candidate(**row) for row in document["candidates"]),
    }
    return Incident(**known)


def queue_document(queue: LabelQueue) -> Document:
    """Return a label queue as a document, without its id and revision."""
    document = asdict(queue)
    del document["id"], document["revision"]
    return {**document, "classes": list(queue.classes), "schema_version": SCHEMA_VERSION}


def queue_entity(document: Document) -> LabelQueue:
    """Return the label queue in a document."""
    known = {field.name: document[field.name] for field in fields(LabelQueue) if field.name in document}
    known |= {
        "id": document["_id"],
        "classes": tuple(document["classes"]),
        "items": tuple(Item(**row) for row in document["items"]),
    }
    return LabelQueue(**known)
