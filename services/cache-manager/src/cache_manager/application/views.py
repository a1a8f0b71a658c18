"""Entries and sites as people and other services see them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cache_manager.domain.charge import Quota, Site
from cache_manager.domain.entry import Entry
from cache_manager.domain.links import DEFAULTS
from cache_manager.domain.names import LeaseName
from cache_manager.domain.retention import Rule
from cache_manager.domain.states import FILLING, PUBLISHED, State


def reason(entry: Entry) -> str:
    """Return why an entry is as it is, and that it is read already, if it is."""
    if not entry.leases or entry.state not in FILLING:
        return entry.reason
    return f"{entry.reason}; in use while filling" if entry.reason else "in use while filling"


def entry(entry: Entry, path: str | None) -> dict[str, Any]:
    """Return an entry; `path` is where its tree lies once it is ready."""
    return {
        "id": entry.id,
        "site": entry.site,
        "project": entry.project,
        "dataset": entry.dataset,
        "version": entry.version,
        "commit": entry.commit,
        "mode": entry.mode,
        "paths": list(entry.paths),
        "variant": entry.key.variant,
        "state": entry.state.value,
        "desired": entry.desired,
        "reason": reason(entry),
        "path": path,
        "files": entry.files,
        "bytes": entry.bytes,
        "fetched_bytes": entry.fetched_bytes,
        "saved_bytes": entry.saved_bytes,
        "progress": round(entry.progress, 4),
        "leases": [
            {"lease": LeaseName(entry.id, run, grant.token).id, "run": run, "hit": grant.hit}
            for run, grant in sorted(entry.leases.items())
        ],
        "pins": [
            {"pin": name, "by": pin.by, "reason": pin.reason, "since": pin.since.isoformat() if pin.since else None}
            for name, pin in sorted(entry.pins.items())
        ],
        "hits": entry.hits,
        "misses": entry.misses,
        "heat": round(entry.heat, 4),
        "fill_seconds": round(entry.fill_seconds, 3),
        "tree_root": entry.tree_root or None,
        "idle_seconds": round(entry.idle_seconds, 1),
        "scrubbed_at": entry.scrubbed_at.isoformat() if entry.scrubbed_at else None,
        "attempts": entry.attempts,
        "retry_at": entry.retry_at.isoformat() if entry.retry_at else None,
        "ready_at": entry.ready_at.isoformat() if entry.ready_at else None,
        "revision": entry.revision,
    }


def quota(quota: Quota) -> dict[str, Any]:
    """Return what a project holds at a site (`*`: at all), and may hold."""
    limit = quota.limit
    return {
        "site": quota.site,
        "project": quota.project,
        "limit_bytes": None if limit is None else limit.bytes,
        "limit_inodes": None if limit is None else limit.inodes,
        "charged_bytes": quota.charged.bytes,
        "charged_inodes": quota.charged.inodes,
    }


def rule(rule: Rule) -> dict[str, Any]:
    """Return for how long unused copies of a dataset, or of a whole project, stay."""
    return {"project": rule.project, "dataset": rule.dataset, "seconds": rule.seconds}


def site(site: Site, entries: list[Entry], project: str, problem: str | None) -> dict[str, Any]:
    """Return a site. Room is what all projects use; entries, hits, misses and savings are those of `project`.

    `problem` says why it cannot be used now.
    """
    used = sum(entry.charge.bytes for entry in entries if entry.state in PUBLISHED)
    own = [entry for entry in entries if entry.project == project]
    return {
        "site": site.id,
        "path": site.path,
        "origin": site.origin,
        "capacity_bytes": site.capacity.bytes,
        "capacity_inodes": site.capacity.inodes,
        "charged_bytes": site.charged.bytes,
        "charged_inodes": site.charged.inodes,
        "used_bytes": used,
        "reserved_bytes": max(0, site.charged.bytes - used),
        "free_bytes": site.free.bytes,
        "free_inodes": site.free.inodes,
        "age_out_seconds": site.age_out,
        "links": {name: asdict(getattr(site.links, name)) for name in DEFAULTS},
        "entries": sum(entry.state is not State.ABSENT for entry in own),
        "saved_bytes": sum(entry.saved_bytes for entry in own),
        "hits": sum(entry.hits for entry in own),
        "misses": sum(entry.misses for entry in own),
        "state": "unreachable" if problem else "draining" if site.draining else "ready",
        "reason": problem or (_staying(entries) if site.draining else ""),
    }


def _staying(entries: list[Entry]) -> str:
    leases, pins = sum(len(entry.leases) for entry in entries), sum(len(entry.pins) for entry in entries)
    charged = sum(bool(entry.charge) for entry in entries)
    return f"{charged} entries are still there, held by {leases} leases and {pins} pins" if charged else "empty"
