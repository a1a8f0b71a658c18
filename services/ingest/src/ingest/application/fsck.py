"""Invariants of ingest: one state per job (I9), and a completed one names a commit that the lake holds whole (I2)."""

from __future__ import annotations

from typing import Any, Protocol

from ingest.application.world import World
from ingest.domain.jobs import Job, State

PAGE = 500


class Commits(Protocol):
    """Looks commits up in the lake."""

    async def whole(self, project: str, commit: str) -> bool:
        """Return whether the commit object and its manifest are there, with the bytes that their ids promise."""


async def fsck(world: World, commits: Commits) -> dict[str, Any]:
    """Check every job and return what is broken."""
    checked = 0
    violations: list[dict[str, str]] = []
    known: dict[tuple[str, str], bool] = {}
    before: str | None = None
    while jobs := await world.jobs.find({}, before=before, limit=PAGE):
        for job in jobs:
            checked += 1
            violations += [_violation(*broken, job) for broken in await _broken(job, commits, known)]
        before = jobs[-1].id
    return {"service": "ingest", "checked": checked, "violations": violations}


async def _broken(job: Job, commits: Commits, known: dict[tuple[str, str], bool]) -> list[tuple[str, str]]:
    completed = job.state is State.COMPLETED
    if completed != (job.version is not None and job.commit is not None):
        return [("I9", f"{job.state.value} with version {job.version} and commit {job.commit}")]
    if job.state is not State.COMPLETED and not job.reason:
        return [("I9", f"{job.state.value} without a reason")]
    if job.commit is None:
        return []
    key = (job.project, job.commit)
    if key not in known:
        known[key] = await commits.whole(*key)
    return [] if known[key] else [("I2", f"the lake does not hold commit {job.commit} whole")]


def _violation(invariant: str, what: str, job: Job) -> dict[str, str]:
    return {"invariant": invariant, "what": what, "where": f"job:{job.id}"}
