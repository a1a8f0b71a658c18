"""/v1/cache: sites, entries and leases. Translation only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cache_manager.application.cache import Cache
from cache_manager.application.leases import AcquireLease, acquire_lease, release_lease, renew_lease
from cache_manager.application.sites import DEFAULT_INODES, DefineSite
from cache_manager.domain.entry import Cause
from cache_manager.domain.states import State
from millrace.auth import Principal
from millrace.events.names import NAME_PATTERN, Digest, ResourceName, RunId
from millrace.http import ProjectName, requires, requires_platform
from millrace.telemetry import current_traceparent

router = APIRouter(prefix="/v1/cache", tags=["cache"])
fsck_router = APIRouter(tags=["operations"])

Reader = Annotated[Principal, Depends(requires("cache:read"))]
Writer = Annotated[Principal, Depends(requires("cache:write"))]
SiteAdmin = Annotated[Principal, Depends(requires_platform("sites:write"))]
Auditor = Annotated[Principal, Depends(requires_platform("fsck:read"))]
Id = Annotated[str, Path(max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteBody(_Body):
    """A site as it should be."""

    path: str = Field(min_length=2, max_length=1_024, description="an absolute directory of its own")
    capacity_bytes: int = Field(gt=0, lt=2**62)
    capacity_inodes: int = Field(default=DEFAULT_INODES, gt=0, lt=2**62)


class EntryBody(_Body):
    """What should be cached: a version by number or commit."""

    site: ResourceName
    dataset: ResourceName
    version: int | None = Field(default=None, ge=1, lt=2**31)
    commit: Digest | None = None

    @model_validator(mode="after")
    def _one(self) -> EntryBody:
        if (self.version is None) == (self.commit is None):
            raise ValueError("name the version by `version` or by `commit`, one of them")
        return self


class LeaseBody(_Body):
    """A run that needs a version's path."""

    run: RunId
    site: ResourceName
    dataset: ResourceName
    commit: Digest


def here(request: Request) -> Cache:
    """Return the service behind the routes."""
    cache: Cache = request.app.state.cache
    return cache


Here = Annotated[Cache, Depends(here)]


def _cause(principal: Principal, correlation: str | None = None) -> Cause:
    return Cause(principal=principal.id, correlation=correlation, traceparent=current_traceparent())


@router.get("/sites")
async def list_sites(_: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """List the sites with their room, and what the project's entries saved there."""
    return {"items": await cache.list_sites(project), "next": None}


@router.put("/sites/{site}")
async def put_site(
    site: Annotated[str, Path(pattern=NAME_PATTERN)], body: SiteBody, principal: SiteAdmin, cache: Here
) -> dict[str, Any]:
    """Create a site, or change its path (if it is empty) and capacity."""
    cmd = DefineSite(site, body.path, body.capacity_bytes, body.capacity_inodes)
    return await cache.define_site(cmd, principal.id)


@router.get("/entries")
async def list_entries(
    _: Reader,
    cache: Here,
    *,
    project: ProjectName = "default",
    site: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    dataset: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    state: State | None = None,
    commit: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
    after: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List the project's entries by id; absent ones only if asked for."""
    wanted = {"site": site, "dataset": dataset, "commit": commit, "state": state}
    where = {name: value for name, value in wanted.items() if value is not None}
    return await cache.list_entries(project, where, after=after, limit=limit)


@router.get("/entries/{entry}")
async def get_entry(entry: Id, _: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Return one entry."""
    return await cache.get_entry(entry, project)


@router.post("/entries", status_code=202)
async def post_entry(
    body: EntryBody, principal: Writer, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Ask for a version to be cached at a site; repeating it joins what is under way."""
    reference = str(body.version) if body.version is not None else str(body.commit)
    return await cache.request_present(body.site, project, body.dataset, reference, _cause(principal))


@router.delete("/entries/{entry}", status_code=202)
async def delete_entry(entry: Id, principal: Writer, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Clear an entry: it goes as soon as nobody holds a lease on it."""
    return await cache.request_absent(entry, project, _cause(principal))


@router.post("/leases")
async def post_lease(
    body: LeaseBody, principal: Writer, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Grant a run the path of a ready entry; 409 with the reason while it is not ready."""
    cmd = AcquireLease(
        run=body.run,
        site=body.site,
        project=project,
        dataset=body.dataset,
        commit=body.commit,
        cause=_cause(principal),
    )
    return await acquire_lease(cmd, world=cache.world)


@router.put("/leases/{lease}")
async def put_lease(lease: Id, _: Writer, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Renew a lease; 409 if it is gone."""
    return await renew_lease(lease, project, world=cache.world)


@router.delete("/leases/{lease}", status_code=204)
async def delete_lease(lease: Id, _: Writer, cache: Here, project: ProjectName = "default") -> Response:
    """Release a lease; one that is gone is no error."""
    await release_lease(lease, project, world=cache.world)
    return Response(status_code=204)


@fsck_router.get("/v1/fsck")
async def get_fsck(_: Auditor, cache: Here, *, deep: bool = False) -> dict[str, Any]:
    """Check the invariants; `deep` reads every byte again."""
    return await cache.fsck(deep=deep)
