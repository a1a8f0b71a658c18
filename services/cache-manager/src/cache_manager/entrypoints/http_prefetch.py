"""/v1/cache/prefetch: what is brought before anybody asks. Translation only."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field, model_validator

from cache_manager.application.prefetching import PrefetchRules
from cache_manager.domain.prefetch import Prefetch, Trigger
from cache_manager.entrypoints.http_common import Body, Here, Name, PolicyMaker, Reader
from millrace.events.names import ResourceName
from millrace.http import ProjectName

router = APIRouter(prefix="/v1/cache/prefetch", tags=["cache"])


class PrefetchBody(Body):
    """A rule: when what is brought where."""

    trigger: Trigger
    dataset: ResourceName | None = Field(default=None, description="none: any; a schedule needs one")
    site: ResourceName | None = Field(default=None, description="none with `run`: where the run will be")
    every_seconds: float | None = Field(default=None, ge=60, le=366 * 86_400)
    at: str | None = Field(default=None, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="daily, HH:MM in UTC")

    @model_validator(mode="after")
    def _whole(self) -> PrefetchBody:
        scheduled = self.trigger == "schedule"
        if ((self.every_seconds is None) == (self.at is None)) == scheduled:
            raise ValueError("a schedule has `every_seconds` or `at`, one of them; other triggers have neither")
        if scheduled and self.dataset is None:
            raise ValueError("a schedule names its dataset")
        if (self.site is None) != (self.trigger == "run"):
            raise ValueError("name the site, but for runs, which name their own")
        return self


@router.get("")
async def list_rules(_: Reader, cache: Here, project: ProjectName = "default") -> dict[str, Any]:
    """List the project's prefetch rules."""
    return {"items": await PrefetchRules(cache.world).list_rules(project), "next": None}


@router.put("/{rule}")
async def put_rule(
    rule: Name, body: PrefetchBody, principal: PolicyMaker, cache: Here, project: ProjectName = "default"
) -> dict[str, Any]:
    """Create or replace a prefetch rule."""
    made = Prefetch(project, rule, body.trigger, body.dataset, body.site, body.every_seconds, body.at)
    return await PrefetchRules(cache.world).put(made, principal.id)


@router.delete("/{rule}", status_code=204)
async def delete_rule(rule: Name, principal: PolicyMaker, cache: Here, project: ProjectName = "default") -> Response:
    """Remove a prefetch rule."""
    await PrefetchRules(cache.world).remove(project, rule, principal.id)
    return Response(status_code=204)
