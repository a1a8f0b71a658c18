"""/v1/queue, /v1/gpus, /v1/fsck. Translation only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Protocol

from blake3 import blake3
from fastapi import APIRouter, Depends, Path, Query

from millrace.auth import Principal
from millrace.clock import Clock
from millrace.documents.ports import Transact
from millrace.errors import NotFound
from millrace.http import ProjectName, requires, requires_platform
from millrace.objects import ObjectStore
from trainer.application import views
from trainer.application.fsck import check
from trainer.application.ports import Queue, TrainerUnit
from trainer.application.requests import cancel
from trainer.domain.jobs import Job
from trainer.errors import JobNotFound

QueueReader = Annotated[Principal, Depends(requires("queue:read"))]
QueueWriter = Annotated[Principal, Depends(requires("queue:write"))]
DeviceReader = Annotated[Principal, Depends(requires("gpus:read"))]
Checker = Annotated[Principal, Depends(requires_platform("fsck:read"))]
RunPath = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class Kick(Protocol):
    """Wakes scheduler and agent."""

    def __call__(self) -> None:
        """Do it."""


class AllJobs(Queue, Protocol):
    """A queue that can be read whole."""

    async def all_jobs(self) -> list[Job]:
        """Return every job."""


def queue_router(queue: Queue, transact: Transact[TrainerUnit], clock: Clock, kick: Kick) -> APIRouter:
    """Return `/v1/queue` and `/v1/gpus`."""
    router = APIRouter(prefix="/v1", tags=["queue"])

    @router.get("/queue")
    async def list_queue(
        _: QueueReader,
        project: ProjectName = "default",
        ended: Annotated[int, Query(ge=0, le=1_000, description="how many ended runs to add")] = 0,
    ) -> dict[str, Any]:
        """List what waits and what runs, and why."""
        return {"items": views.queue(await queue.of_project(project, ended=ended)), "next": None}

    @router.get("/queue/{run}")
    async def get_job(run: RunPath, _: QueueReader, project: ProjectName = "default") -> dict[str, Any]:
        """Return one job."""
        found = await queue.get(run)
        if found is None or found.project != project:
            raise JobNotFound(f"no run {run} in the queue")
        return views.job(found)

    @router.delete("/queue/{run}", status_code=202)
    async def delete_job(run: RunPath, principal: QueueWriter, project: ProjectName = "default") -> dict[str, Any]:
        """Cancel a run; one that runs is asked to stop first."""
        moved = await transact(lambda uow: cancel(run, project=project, principal=principal.id, uow=uow, clock=clock))
        kick()
        return views.job(moved)

    @router.get("/gpus")
    async def list_devices(_: DeviceReader) -> dict[str, Any]:
        """List GPUs and CPU slots, and who holds them."""
        return {"items": views.devices(await queue.nodes()), "next": None}

    return router


def fsck_router(queue: AllJobs, store: ObjectStore) -> APIRouter:
    """Return `/v1/fsck`."""
    router = APIRouter(tags=["operations"])

    @router.get("/v1/fsck")
    async def fsck(_: Checker) -> dict[str, Any]:
        """Check this service's invariants."""
        jobs = await queue.all_jobs()
        digests: dict[str, str | None] = {}
        for job in jobs:
            if job.checkpoint is not None:
                digests[job.checkpoint.manifest] = await _digest(store, job.checkpoint.manifest)
        found = check(jobs, await queue.nodes(), await queue.counter("fence"), digests)
        return {"service": "trainer", "checked": len(jobs), "violations": [asdict(one) for one in found]}

    return router


async def _digest(store: ObjectStore, key: str) -> str | None:
    try:
        return blake3(await store.get(key)).hexdigest()
    except NotFound:
        return None
