"""/v1/cache: entries, pins and leases. Translation only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field, model_validator

from cache_manager.application.early import WantPacks, look_at_lease, want_packs
from cache_manager.application.leases import AcquireLease, acquire_lease, release_lease, renew_lease
from cache_manager.domain.selection import Selection
from cache_manager.domain.states import State
from cache_manager.entrypoints.http_common import Auditor, Body, Here, Id, Name, Pinner, Reader, Writer, cause_of
from millrace.datasets.patterns import Pattern
from millrace.events.names import Digest, ResourceName, RunId
from millrace.http import ProjectName
from millrace.patterns import NAME_PATTERN

router = APIRouter(prefix="/v1/cache", tags=["cache"])
fsck_router = APIRouter(tags=["operations"])


class SelectionBody(Body):
    """What of a version is meant, and in which form."""

    mode: Literal["tree", "packs"] = Field(
        default="tree", description="`packs`: as they lie in the lake, for `Dataset.open`; they land much sooner"
    )
    paths: tuple[Pattern, ...] = Field(
        default=(), max_length=64, description="only what matches these patterns, written as in `.gitignore`"
    )

    @property
    def selection(self) -> Selection:
        """Return it as the application takes it."""
        return Selection(self.mode, self.paths)


class EntryBody(SelectionBody):
    """What should be cached: a version by number or commit."""

    site: ResourceName | None = Field(default=None, description="none: where a run would have read it soonest")
    dataset: ResourceName
    version: int | None = Field(default=None, ge=1, lt=2**31)
    commit: Digest | None = None

    @model_validator(mode="after")
    def _one(self) -> EntryBody:
        if (self.version is None) == (self.commit is None):
            raise ValueError("name the version by `version` or by `commit`, one of them")
        return self


class LeaseBody(SelectionBody):
    """A run that needs a version's path."""

    run: RunId
    site: ResourceName
    dataset: ResourceName
    commit: Digest
    early: bool = Field(default=False, description="packs that have landed are read while others are fetched")


class WantedBody(Body):
    """What one reader of a run needs next of a copy that is being filled."""

    names: tuple[Digest, ...] = Field(default=(), max_length=16, description="packs and chunks, in their order")
    reader: int = Field(default=0, ge=0, lt=16, description="tells a run's readers apart; the last word of each counts")
    waited_seconds: float = Field(default=0.0, ge=0, le=86_400, description="waited since the last call")


class PinBody(Body):
    """Why a copy is kept."""

    reason: str = Field(default="", max_length=500)


@router.get("/plan")
async def get_plan(
    _: Reader,
    cache: Here,
    *,
    dataset: Annotated[str, Query(pattern=NAME_PATTERN)],
    version: Annotated[str, Query(max_length=64, description="a number, a commit, or `latest`")] = "latest",
    site: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    mode: Literal["tree", "packs"] = "tree",
    path: Annotated[list[Pattern], Query(max_length=64, description="only what matches; repeat it")] = [],  # noqa: B006
    project: ProjectName = "default",
) -> dict[str, Any]:
    """Say what it would take to cache a version at each site: bytes, requests, seconds, victims. Changes nothing."""
    return await cache.plan(project, dataset, version, site, Selection(mode, tuple(path)))


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
    selection = body.selection
    return await cache.request_present(body.site, project, body.dataset, reference, cause_of(principal), selection)


@router.delete("/entries/{entry}", status_code=202)
async def delete_entry(entry: Id, principal: Writer, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Clear an entry: it goes as soon as nobody holds a lease on it."""
    return await cache.request_absent(entry, project, cause_of(principal))


@router.get("/entries/{entry}/why")
async def get_why(entry: Id, _: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Say why an entry is as it is, who holds it, when it would go, and how other sites would do."""
    return await cache.why(entry, project)


@router.put("/entries/{entry}/pins/{pin}")
async def put_pin(
    entry: Id, pin: Name, body: PinBody, principal: Pinner, cache: Here, *, project: ProjectName = "default"
) -> dict[str, Any]:
    """Keep an entry whatever happens, until this pin is removed."""
    return await cache.pin(entry, project, pin, body.reason, cause_of(principal))


@router.delete("/entries/{entry}/pins/{pin}")
async def delete_pin(
    entry: Id, pin: Name, principal: Pinner, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Remove a pin."""
    return await cache.unpin(entry, project, pin, cause_of(principal))


@router.post("/entries/{entry}/scrub", status_code=202)
async def post_scrub(entry: Id, principal: Writer, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Read every byte of a copy again, soon; what is damaged is replaced from the lake."""
    return await cache.scrub(entry, project, cause_of(principal))


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
        cause=cause_of(principal),
        selection=body.selection,
        early=body.early,
    )
    return await acquire_lease(cmd, world=cache.world)


@router.put("/leases/{lease}")
async def put_lease(lease: Id, _: Writer, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Renew a lease; 409 if it is gone."""
    return await renew_lease(lease, project, world=cache.world)


@router.get("/leases/{lease}")
async def get_lease(lease: Id, _: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """Say where a lease's copy lies now, and how far it is; 409 with the reason if the lease is gone."""
    return await look_at_lease(lease, project, world=cache.world)


@router.post("/leases/{lease}/wanted")
async def post_wanted(
    lease: Id, body: WantedBody, _: Writer, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Say which packs a reader needs next; they are fetched before others. Answers as `GET` of the lease does."""
    wish = WantPacks(lease, project, body.reader, body.names, body.waited_seconds)
    return await want_packs(wish, world=cache.world)


@router.delete("/leases/{lease}", status_code=204)
async def delete_lease(lease: Id, _: Writer, cache: Here, project: ProjectName = "default") -> Response:
    """Release a lease; one that is gone is no error."""
    await release_lease(lease, project, world=cache.world)
    return Response(status_code=204)


@fsck_router.get("/v1/fsck")
async def get_fsck(_: Auditor, cache: Here, *, deep: bool = False) -> dict[str, Any]:
    """Check the invariants; `deep` reads every byte again."""
    return await cache.fsck(deep=deep)
