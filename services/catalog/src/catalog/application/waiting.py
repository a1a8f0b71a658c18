"""Everything that waits, why, and what would unblock it."""

from __future__ import annotations

from typing import Any

from catalog.application.ports import Documents
from catalog.application.views import when
from catalog.domain.runs import Run

LIMIT = 500
Item = dict[str, Any]


async def waiting(project: str, *, documents: Documents) -> list[Item]:
    """Return all pending things of a project that the catalog knows of, oldest first."""
    items = [
        *await _runs(project, documents),
        *await _deployments(project, documents),
        *await _operations(project, documents),
        *await _requests(project, documents),
        *await _dead_letters(project, documents),
    ]
    return sorted(items, key=lambda item: str(item["since"]))


def _item(kind: str, name: str, state: str, why: str, *, unblock: str, since: Any) -> Item:
    return {"kind": kind, "name": name, "state": state, "reason": why, "unblock": unblock, "since": when(since)}


async def _runs(project: str, documents: Documents) -> list[Item]:
    open_runs = await documents.runs.find({"project": project, "state": ("requested", "queued")}, limit=LIMIT)
    return [
        _item("run", run.id, run.state, run.reason, unblock=_unblock_run(run), since=run.created_at)
        for run in open_runs
    ]


def _unblock_run(run: Run) -> str:
    if run.state == "requested":
        return "the trainer takes it as soon as it runs and hears of it"
    if "cache" in run.reason or "site" in run.reason:
        return f"version {run.dataset}@{run.version} becomes ready at site {run.site}"
    return f"what the trainer says: {run.reason}" if run.reason else "a device becomes free"


async def _deployments(project: str, documents: Documents) -> list[Item]:
    found = []
    for it in await documents.deployments.find({"project": project}, limit=LIMIT):
        wish, seen = it.desired, it.observed
        if it.settled and seen.state in ("ready", "retired"):
            continue
        want = f"{wish.model}@{wish.version}" if wish.presence == "present" else "its retirement"
        failed = it.settled
        why = f"{want} failed: {seen.reason}" if failed else f"revision {wish.revision} ({want}) is not answered yet"
        unblock = "another model version is deployed" if failed else "serving loads it and its golden request passes"
        found.append(_item("deployment", it.name, seen.state, why, unblock=unblock, since=wish.at))
    return found


async def _operations(project: str, documents: Documents) -> list[Item]:
    where = {"project": project, "state": ("accepted", "running"), "children": ()}
    pending = await documents.operations.find(where, limit=LIMIT)
    unblock = "ingest reads the landed data and commits it"
    return [_item("operation", it.id, it.state, it.reason, unblock=unblock, since=it.created_at) for it in pending]


async def _requests(project: str, documents: Documents) -> list[Item]:
    found = []
    where = {"project": project, "requests.state": "requested"}
    for execution in await documents.executions.find(where, limit=LIMIT):
        for request in execution.requests:
            if request.state == "requested" and request.kind == "cache":
                unblock = "the cache manager fills the site"
                found.append(
                    _item(
                        "cache",
                        request.target,
                        request.state,
                        request.reason,
                        unblock=unblock,
                        since=execution.created_at,
                    )
                )
    return found


async def _dead_letters(project: str, documents: Documents) -> list[Item]:
    where = {"project": project, "state": "dead"}
    letters = await documents.dead_letters.find(where, limit=LIMIT)
    unblock = "the cause is mended, then `millrace dlq replay`"
    return [
        _item("dead-letter", it.id, it.state, f"{it.durable}: {it.reason}", unblock=unblock, since=it.at)
        for it in letters
    ]
