"""/v1/cache/sites, quotas and age-out rules: where copies may lie, how much, and for how long. Translation only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field

from cache_manager.application.adopting import adopt_tree
from cache_manager.application.policy import CachePolicy
from cache_manager.application.sites import DEFAULT_INODES, MAX_AGE, DefineSite
from cache_manager.domain.charge import EVERY_SITE, Charge
from cache_manager.domain.links import Measure
from cache_manager.domain.retention import Rule
from cache_manager.entrypoints.http_common import Body, Here, Name, PolicyMaker, Prober, Reader, SiteAdmin, cause_of
from millrace.events.names import ResourceName
from millrace.http import ProjectName
from millrace.patterns import NAME_PATTERN

router = APIRouter(prefix="/v1/cache", tags=["cache"])

MAX_AMOUNT = 2**62


class SiteBody(Body):
    """A site as it should be."""

    path: str = Field(min_length=2, max_length=1_024, description="an absolute directory of its own")
    capacity_bytes: int = Field(gt=0, lt=MAX_AMOUNT)
    capacity_inodes: int = Field(default=DEFAULT_INODES, gt=0, lt=MAX_AMOUNT)
    age_out_seconds: float | None = Field(default=None, gt=0, le=MAX_AGE, description="None: the service's own rule")
    lake_bytes_per_second: float | None = Field(default=None, gt=0, lt=1e15, description="until it is measured")
    read_bytes_per_second: float | None = Field(default=None, gt=0, lt=1e15, description="until it is measured")
    open_seconds: float | None = Field(default=None, gt=0, lt=3_600, description="until it is measured")

    @property
    def labels(self) -> dict[Measure, float]:
        """Return what people say of the site's links."""
        said: dict[Measure, float | None] = {
            "lake": self.lake_bytes_per_second,
            "read": self.read_bytes_per_second,
            "open": self.open_seconds,
        }
        return {name: value for name, value in said.items() if value is not None}


class AdoptBody(Body):
    """A folder near the compute that holds a version's files, or most of them."""

    path: str = Field(min_length=2, max_length=1_024, description="as the cache manager's machine sees it")
    site: ResourceName
    dataset: ResourceName
    version: int = Field(ge=1, lt=2**31)


class ProbeBody(Body):
    """What a compute node measured at its mount of a site."""

    read_bytes_per_second: float = Field(gt=0, lt=1e15)
    open_seconds: float = Field(ge=0, lt=3_600)


class QuotaBody(Body):
    """What a project may hold at a site, or at all sites together; without amounts the limit is lifted."""

    site: ResourceName | None = None
    bytes: int | None = Field(default=None, ge=0, lt=MAX_AMOUNT)
    inodes: int | None = Field(default=None, ge=0, lt=MAX_AMOUNT)

    @property
    def limit(self) -> Charge | None:
        """Return the limit; an amount that is not given is not limited."""
        if self.bytes is None and self.inodes is None:
            return None
        return Charge(
            MAX_AMOUNT if self.bytes is None else self.bytes, MAX_AMOUNT if self.inodes is None else self.inodes
        )


class AgeOutBody(Body):
    """For how long unused copies of a dataset stay, or those of the whole project."""

    dataset: ResourceName | None = None
    seconds: float = Field(gt=0, le=MAX_AGE)


@router.get("/sites")
async def list_sites(_: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """List the sites with their room, and what the project's entries saved there."""
    return {"items": await cache.list_sites(project), "next": None}


@router.put("/sites/{site}")
async def put_site(site: Name, body: SiteBody, principal: SiteAdmin, cache: Here) -> dict[str, Any]:
    """Create a site, or change its path (if it is empty), capacity and age-out."""
    cmd = DefineSite(
        site,
        body.path,
        body.capacity_bytes,
        body.capacity_inodes,
        age_out=body.age_out_seconds,
        labels=body.labels,
    )
    return await cache.define_site(cmd, principal.id)


@router.delete("/sites/{site}", status_code=204)
async def delete_site(site: Name, principal: SiteAdmin, cache: Here) -> Response:
    """Forget a site that holds nothing; its directory stays."""
    await cache.remove_site(site, principal.id)
    return Response(status_code=204)


@router.put("/sites/{site}/drain")
async def put_drain(site: Name, principal: SiteAdmin, cache: Here) -> dict[str, Any]:
    """Let nothing new come to a site, and everything leave it that nobody holds."""
    return await cache.drain_site(site, principal.id, draining=True)


@router.delete("/sites/{site}/drain")
async def delete_drain(site: Name, principal: SiteAdmin, cache: Here) -> dict[str, Any]:
    """Use a site again."""
    return await cache.drain_site(site, principal.id, draining=False)


@router.post("/sites/{site}/scrub", status_code=202)
async def post_site_scrub(site: Name, principal: SiteAdmin, cache: Here) -> dict[str, Any]:
    """Read every byte of every copy at a site again, one after the other."""
    return await cache.scrub_site(site, principal.id)


@router.post("/adoptions", status_code=202)
async def post_adoption(
    body: AdoptBody, principal: SiteAdmin, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Make a folder's files a version's copy: hashed, linked into place; only what differs comes from the lake."""
    return await adopt_tree(
        body.path,
        body.site,
        project,
        body.dataset,
        str(body.version),
        cause=cause_of(principal),
        world=cache.world,
    )


@router.post("/sites/{site}/probes", status_code=204)
async def post_probe(site: Name, body: ProbeBody, _: Prober, cache: Here) -> Response:
    """Let what a compute node measured at its mount count."""
    await cache.sample(site, body.read_bytes_per_second, body.open_seconds)
    return Response(status_code=204)


@router.get("/quotas")
async def list_quotas(_: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """List what the project holds and may hold, by site and at all (`*`)."""
    return {"items": await CachePolicy(cache.world).quotas(project), "next": None}


@router.put("/quotas")
async def put_quota(
    body: QuotaBody, principal: SiteAdmin, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Set or lift a project's limit at a site, or at all sites together."""
    return await CachePolicy(cache.world).limit(body.site or EVERY_SITE, project, body.limit, principal.id)


@router.get("/age-out")
async def list_age_out(_: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """List for how long unused copies stay: of datasets, of the project, of sites, and else."""
    return await CachePolicy(cache.world).rules(project)


@router.put("/age-out")
async def put_age_out(
    body: AgeOutBody, principal: PolicyMaker, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Decide for how long unused copies of a dataset, or of the whole project, stay."""
    return await CachePolicy(cache.world).set_rule(Rule(project, body.dataset, body.seconds), principal.id)


@router.delete("/age-out", status_code=204)
async def delete_age_out(
    principal: PolicyMaker,
    cache: Here,
    project: ProjectName = "default",
    dataset: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
) -> Response:
    """Let the next wider rule apply again."""
    await CachePolicy(cache.world).remove_rule(project, dataset, principal.id)
    return Response(status_code=204)
