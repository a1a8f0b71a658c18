"""Rows that remember what happened: the event log, the audit trail, dead letters, edges, answers to repeat."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from catalog.domain.entity import Entity


@dataclass(frozen=True, kw_only=True)
class LogRow(Entity):
    """One event, stored once under its id. `position` is given afterwards, in one order for all readers."""

    type: str
    subject: str
    source: str
    sequence: int
    correlation: str
    causation: str | None
    at: datetime
    raw: str
    position: int | None = None
    policies: Literal["due", "done"] = "done"
    delivered: bool = False


@dataclass(frozen=True)
class Link:
    """An audit row's place in the chain: the digest covers the row and the digest before."""

    position: int
    previous: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class AuditRow(Entity):
    """One change and who made it, written with the change; the chainer links it to the row before afterwards."""

    at: datetime
    principal: str
    action: str
    resource: str
    detail: dict[str, Any] = field(default_factory=dict)
    link: Link | None = None


@dataclass(frozen=True, kw_only=True)
class DeadLetter(Entity):
    """A message that a consumer could not digest, with the reason, until somebody replays it."""

    service: str
    durable: str
    subject: str
    stream: str
    sequence: int
    reason: str
    error: str
    attempts: int
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes
    event: str | None = None
    type: str | None = None
    correlation: str | None = None
    at: datetime
    state: Literal["dead", "replayed"] = "dead"
    replays: int = 0
    replayed_at: datetime | None = None
    replayed_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Edge(Entity):
    """`source` led to `target`; nodes are `dataset:digits@1`, `run:<id>`, `model:digits@1`, and so on."""

    source: str
    relation: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Answer(Entity):
    """What was answered under an idempotency key, to be answered again."""

    fingerprint: str
    status: int
    body: str
    created_at: datetime


def edge(project: str, source: str, relation: str, target: str) -> Edge:
    """Return the edge between two nodes; repeating it is the same edge."""
    return Edge(
        id=f"{project}|{source}|{relation}|{target}", project=project, source=source, relation=relation, target=target
    )
