"""/v1/ingest: jobs. Translation only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from ingest.application import views
from ingest.application.fsck import Commits, fsck
from ingest.application.world import World
from ingest.domain.jobs import State
from ingest.errors import JobNotFound
from millrace.auth import Principal
from millrace.http import ProjectName, requires, requires_platform
from millrace.patterns import NAME_PATTERN

router = APIRouter(prefix="/v1/ingest", tags=["ingest"])
fsck_router = APIRouter(tags=["operations"])

Reader = Annotated[Principal, Depends(requires("ingest:read"))]
Auditor = Annotated[Principal, Depends(requires_platform("fsck:read"))]


def here(request: Request) -> World:
    """Return what the routes work with."""
    world: World = request.app.state.world
    return world


Here = Annotated[World, Depends(here)]


@router.get("/jobs")
async def list_jobs(
    _: Reader,
    world: Here,
    *,
    project: ProjectName = "default",
    dataset: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    state: State | None = None,
    after: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List the project's jobs, newest first."""
    wanted = {"dataset": dataset, "state": state.value if state else None}
    where = {name: value for name, value in wanted.items() if value is not None}
    found = await world.jobs.find({**where, "project": project}, before=after, limit=limit)
    return {"items": [views.job(job) for job in found], "next": found[-1].id if len(found) == limit else None}


@router.get("/jobs/{job}")
async def get_job(
    job: Annotated[str, Path(max_length=128)], _: Reader, world: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Return one job."""
    found = await world.jobs.get(job)
    if found is None or found.project != project:
        raise JobNotFound("no such ingestion job")
    return views.job(found)


@fsck_router.get("/v1/fsck")
async def get_fsck(_: Auditor, world: Here, request: Request) -> dict[str, Any]:
    """Check the invariants."""
    commits: Commits = request.app.state.commits
    return await fsck(world, commits)
