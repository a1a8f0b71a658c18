"""Entries and sites as MongoDB documents, and back."""

from __future__ import annotations

from typing import Any

from cache_manager.domain.charge import Charge, Site
from cache_manager.domain.entry import Asked, Cause, Entry, Grant, Pin
from cache_manager.domain.links import Links, Rate
from cache_manager.domain.states import State

SCHEMA_VERSION = 2
HELD = frozenset({"leases", "pins"})


def value(field: Any) -> Any:
    """Return a field's value as it is stored."""
    if isinstance(field, State):
        return field.value
    if isinstance(field, Charge):
        return {"bytes": field.bytes, "inodes": field.inodes}
    if isinstance(field, Asked):
        return {"sequence": field.sequence, "id": field.id}
    if isinstance(field, Cause):
        return {
            "event": field.event,
            "principal": field.principal,
            "correlation": field.correlation,
            "traceparent": field.traceparent,
        }
    return list(field) if isinstance(field, tuple) else field


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return the document of a new entry."""
    fields = {name: value(getattr(entry, name)) for name in Entry.__dataclass_fields__ if name not in HELD}
    return {"_id": entry.id, **fields, "leases": {}, "pins": {}, "lease_token": 0, "schema_version": SCHEMA_VERSION}


def entry_from(document: dict[str, Any]) -> Entry:
    """Return the entry of a document."""
    fields = {name: document[name] for name in Entry.__dataclass_fields__ if name in document}
    fields["state"] = State(document["state"])
    fields["charge"] = charge_from(document["charge"])
    fields["asked"] = Asked(**document["asked"])
    fields["paths"] = tuple(document.get("paths") or ())
    fields["stored"] = charge_from(document.get("stored") or {"bytes": 0, "inodes": 0})
    fields["cause"] = Cause(**document["cause"])
    fields["leases"] = {run: grant_from(grant) for run, grant in document["leases"].items()}
    fields["pins"] = {name: Pin(**pin) for name, pin in (document.get("pins") or {}).items()}
    return Entry(**fields)


def grant_from(document: dict[str, Any]) -> Grant:
    """Return a lease as stored inside its entry."""
    wanted = document.get("wanted") or {}
    return Grant(document["token"], document["beat"], document["hit"], document["fresh"], wanted)


def charge_from(document: dict[str, Any]) -> Charge:
    """Return an amount of room."""
    return Charge(int(document["bytes"]), int(document["inodes"]))


def site_from(document: dict[str, Any]) -> Site:
    """Return the site of a document."""
    return Site(
        id=document["_id"],
        path=document["path"],
        capacity=charge_from(document["capacity"]),
        charged=charge_from(document["charged"]),
        origin=document["origin"],
        prepared=document["prepared"],
        draining=document.get("draining", False),
        age_out=document.get("age_out"),
        links=Links(**{name: Rate(**rate) for name, rate in document.get("links", {}).items()}),
        revision=document["revision"],
        created_at=document["created_at"],
    )
