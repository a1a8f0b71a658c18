"""The monitor's HTTP API: what is watched, what drifted, what people are asked, and what they answer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from drift_monitor.application.answering import submit_answers
from drift_monitor.application.checking import check, snapshot
from drift_monitor.application.ports import MonitorUnitOfWork, Repositories
from drift_monitor.application.samples import Samples
from drift_monitor.domain.labels import LabelQueue
from drift_monitor.entrypoints import views
from drift_monitor.errors import IncidentNotFound, QueueNotFound, SampleNotFound, WatchNotFound
from millrace.auth import Principal
from millrace.documents.ports import Transact
from millrace.errors import Invalid
from millrace.http import ProjectName, requires, requires_platform
from millrace.objects import ObjectStore
from millrace.patterns import NAME_PATTERN

DriftReader = Annotated[Principal, Depends(requires("drift:read"))]
LabelReader = Annotated[Principal, Depends(requires("labels:read"))]
Annotator = Annotated[Principal, Depends(requires("labels:write"))]
Checker = Annotated[Principal, Depends(requires_platform("fsck:read"))]
Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Limit = Annotated[int, Query(ge=1, le=1_000, description="at most this many")]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


class Answer(BaseModel):
    """One answer; `label` null says that a person could not tell."""

    model_config = ConfigDict(extra="forbid")

    prediction: str = Field(min_length=1, max_length=256)
    label: str | None = Field(max_length=128)


class Answers(BaseModel):
    """Answers to items of one queue; all are taken, or none."""

    model_config = ConfigDict(extra="forbid")

    answers: list[Answer] = Field(min_length=1, max_length=10_000)


def drift_router(kept: Repositories) -> APIRouter:
    """Return `/v1/drift`."""
    router = APIRouter(prefix="/v1/drift", tags=["drift"])

    @router.get("/deployments")
    async def list_deployments(_: DriftReader, project: ProjectName = "default") -> dict[str, Any]:
        """List the watched deployments of a project, each with its newest revision."""
        newest = {watch.deployment: watch for watch in await kept.watches.every() if watch.project == project}
        items = [
            views.deployment(watch, await kept.checkpoints.get(project, name)) for name, watch in sorted(newest.items())
        ]
        return {"items": items, "next": None}

    @router.get("/deployments/{name}")
    async def get_deployment(
        name: Name,
        _: DriftReader,
        project: ProjectName = "default",
        *,
        limit: Limit = 200,
        revision: Annotated[int | None, Query(ge=1, description="whose windows; the newest by default")] = None,
        before: Annotated[int | None, Query(ge=0, description="only windows with lower numbers")] = None,
    ) -> dict[str, Any]:
        """Return a watched deployment: revisions, closed windows of one (newest first), incident."""
        watches = [
            watch for watch in await kept.watches.every() if (watch.project, watch.deployment) == (project, name)
        ]
        if not watches:
            raise WatchNotFound(f"deployment {name!r} is not watched")
        checkpoint = await kept.checkpoints.get(project, name)
        shown = revision or watches[-1].deployment_revision
        windows = await kept.windows.page(project, name, shown, limit=limit, before=before)
        more = windows[-1]["number"] if len(windows) == limit else None
        return {
            **views.deployment(watches[-1], checkpoint),
            "revisions": [views.watch(watch) for watch in watches],
            "windows": [views.window(document) for document in windows],
            "next": more,
        }

    @router.get("/incidents")
    async def list_incidents(
        _: DriftReader,
        project: ProjectName = "default",
        deployment: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
        state: Literal["open", "resolved"] | None = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """List incidents, newest first."""
        found = await kept.incidents.page(project, deployment=deployment, state=state, limit=limit)
        return {"items": [views.incident_document(document) for document in found], "next": None}

    @router.get("/incidents/{incident}")
    async def get_incident(incident: Name, _: DriftReader, project: ProjectName = "default") -> dict[str, Any]:
        """Return an incident with the tests that opened it."""
        found = await kept.incidents.get(incident)
        if found is None or found.watch.project != project:
            raise IncidentNotFound(f"no incident {incident!r}")
        return views.incident(found)

    return router


def labels_router(transact: Transact[MonitorUnitOfWork], kept: Repositories, samples: Samples) -> APIRouter:
    """Return `/v1/labels`."""
    router = APIRouter(prefix="/v1/labels", tags=["labels"])

    async def find(queue: str, project: str) -> LabelQueue:
        found = await kept.queues.get(queue)
        if found is None or found.project != project:
            raise QueueNotFound(f"no label queue {queue!r}")
        return found

    @router.get("/queues")
    async def list_queues(
        _: LabelReader,
        project: ProjectName = "default",
        state: Literal["open", "answered", "landed"] | None = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """List label queues, newest first."""
        found = await kept.queues.page(project, state=state, limit=limit)
        return {"items": [views.queue(queue) for queue in found], "next": None}

    @router.get("/queues/{queue}")
    async def get_queue(queue: Name, _: LabelReader, project: ProjectName = "default") -> dict[str, Any]:
        """Return a label queue and how far it is."""
        return views.queue(await find(queue, project))

    @router.get("/queues/{queue}/items")
    async def list_items(
        queue: Name,
        _: LabelReader,
        *,
        project: ProjectName = "default",
        answered: Annotated[bool | None, Query(description="only answered, or only waiting items")] = None,
        images: Annotated[bool, Query(description="with each picture as base64 PNG")] = True,
        after: Annotated[int, Query(ge=0, description="position after which to go on")] = 0,
        limit: Limit = 200,
    ) -> dict[str, Any]:
        """List the samples of a queue, in an order that says nothing about how they were chosen."""
        found = await find(queue, project)
        rows = [
            (place, item)
            for place, item in enumerate(found.items, start=1)
            if place > after and answered in (None, item.answered)
        ]
        items = [await views.item(found, item, samples if images else None) for _, item in rows[:limit]]
        return {"items": items, "next": rows[limit - 1][0] if len(rows) > limit else None}

    @router.get("/queues/{queue}/samples/{digest}", response_class=Response)
    async def get_sample(queue: Name, digest: Digest, _: LabelReader, project: ProjectName = "default") -> Response:
        """Return a sample's picture."""
        found = await find(queue, project)
        if all(item.digest != digest for item in found.items):
            raise SampleNotFound(f"queue {queue} has no sample {digest}")
        headers = {"cache-control": "private, max-age=86400, immutable"}
        return Response(await samples.get(project, digest), media_type="image/png", headers=headers)

    @router.post("/queues/{queue}/answers")
    async def post_answers(
        queue: Name, body: Annotated[Answers, Body()], principal: Annotator, project: ProjectName = "default"
    ) -> dict[str, Any]:
        """Take answers. Repeating an answer is harmless; contradicting one is refused (409), and so is the request."""
        answers = {one.prediction: one.label for one in body.answers}
        if any(answers[one.prediction] != one.label for one in body.answers):
            raise Invalid("two answers of the request contradict each other")
        stored = await transact(lambda uow: submit_answers(project, queue, answers, by=principal.id, uow=uow))
        return views.queue(stored)

    return router


def fsck_router(transact: Transact[MonitorUnitOfWork], objects: ObjectStore) -> APIRouter:
    """Return `/v1/fsck`."""
    router = APIRouter(tags=["operations"])

    @router.get("/v1/fsck")
    async def fsck(_: Checker) -> dict[str, Any]:
        """Check this service's invariants on one consistent view of its database."""
        checked, violations = await check(await transact(snapshot), objects)
        return {"service": "drift-monitor", "checked": checked, "violations": [asdict(one) for one in violations]}

    return router
