"""The kernel's own collections in every service's database, and the shape of their rows.

outbox   events that were decided in a transaction and wait for the relay, or were sent
inbox    (consumer, event id) of every effect that happened
audit    who changed what; one row per change, written with it
leases   fencing tokens
streams  creation time of each stream of the broker, as last seen by the relay

Services add collections of their own beside these, and never write to these but through the unit of work.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millrace.clock import new_id
from millrace.events.envelope import AnyEvent

OUTBOX = "outbox"
INBOX = "inbox"
AUDIT = "audit"
LEASES = "leases"
STREAMS = "streams"
MIGRATIONS = "migrations"

PENDING = "pending"
SENT = "sent"


def event_row(event: AnyEvent, raw: bytes, now: datetime) -> dict[str, Any]:
    """Return the outbox row of an event. Rows of one `aggregate` are published one after the other."""
    return {
        "_id": event.id,
        "aggregate": f"{event.project}/{event.type.partition('.')[0]}/{event.subject}",
        "sequence": event.sequence,
        "subject": event.bus_subject,
        "raw": raw,
        "state": PENDING,
        "stream": None,
        "stream_epoch": None,
        "created_at": now,
        "sent_at": None,
        "traceparent": event.traceparent,
    }


def raw_row(subject: str, raw: bytes, headers: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Return the outbox row of bytes that are published as they are: the replay of a dead letter."""
    row_id = str(new_id())
    return {
        "_id": row_id,
        "aggregate": f"raw/{row_id}",
        "sequence": 0,
        "subject": subject,
        "raw": raw,
        "headers": dict(headers),
        "state": PENDING,
        "stream": None,
        "stream_epoch": None,
        "created_at": now,
        "sent_at": None,
        "traceparent": None,
    }


def inbox_row(consumer: str, event_id: str, now: datetime) -> dict[str, Any]:
    """Return the inbox row of one effect; `_id` makes it unique."""
    return {"_id": {"consumer": consumer, "event": event_id}, "at": now}


def audit_row(
    principal: str, action: str, resource: str, project: str, detail: Mapping[str, Any], *, now: datetime
) -> dict[str, Any]:
    """Return an audit row. `link` is set later, by the chainer that links rows by hash."""
    return {
        "_id": str(new_id()),
        "at": now,
        "project": project,
        "principal": principal,
        "action": action,
        "resource": resource,
        "detail": dict(detail),
        "schema_version": 1,
        "link": None,
    }
