"""Cache requests of policies move on by what the cache manager reports."""

from __future__ import annotations

from catalog.application.policies.requests import cache_target
from catalog.application.ports import Unit
from catalog.application.projections.requests import settle
from millrace.events import AnyEvent, CacheFailed, CacheReady


async def project_cache(event: AnyEvent, *, uow: Unit) -> None:
    """Settle the requests that asked for this copy. A fill that is tried again stays open, with the reason."""
    data = event.data
    if data.variant:  # policies ask for whole versions as trees
        return
    target = cache_target(data.site, data.dataset, data.version)
    if isinstance(data, CacheReady):
        await settle(event.project, target, "done", f"at {data.path}", uow=uow)
    elif isinstance(data, CacheFailed):
        await settle(event.project, target, "requested" if data.retry_at else "failed", data.reason, uow=uow)
