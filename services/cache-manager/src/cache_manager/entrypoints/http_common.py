"""What the routes of this service share: who may, the service behind them, and names in paths."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from cache_manager.application.cache import Cache
from cache_manager.domain.entry import Cause
from millrace.auth import Principal
from millrace.http import requires, requires_platform
from millrace.patterns import NAME_PATTERN
from millrace.telemetry import current_traceparent

Reader = Annotated[Principal, Depends(requires("cache:read"))]
Writer = Annotated[Principal, Depends(requires("cache:write"))]
Pinner = Annotated[Principal, Depends(requires("cache:pin"))]
PolicyMaker = Annotated[Principal, Depends(requires("policies:write"))]
SiteAdmin = Annotated[Principal, Depends(requires_platform("sites:write"))]
Prober = Annotated[Principal, Depends(requires_platform("cache:write"))]
Auditor = Annotated[Principal, Depends(requires_platform("fsck:read"))]
Id = Annotated[str, Path(max_length=320)]
Name = Annotated[str, Path(pattern=NAME_PATTERN)]


class Body(BaseModel):
    """A body that has nothing else in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def here(request: Request) -> Cache:
    """Return the service behind the routes."""
    cache: Cache = request.app.state.cache
    return cache


Here = Annotated[Cache, Depends(here)]


def cause_of(principal: Principal) -> Cause:
    """Return who asked, and in which trace."""
    return Cause(principal=principal.id, traceparent=current_traceparent())
