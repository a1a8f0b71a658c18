"""From events to wishes. A handler records and kicks; the reconciler does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cache_manager.application.ports import Unit
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.domain.entry import Asked, Cause
from cache_manager.settings import Prefetch
from millrace.bus import Subscription
from millrace.clock import Clock
from millrace.events import CacheRequested, DatasetCommitted, encode
from millrace.events.envelope import AnyEvent


def subscriptions(clock: Clock, kick: Callable[[], None], prefetch: Sequence[Prefetch]) -> list[Subscription]:
    """Return what the cache manager wants to hear."""

    async def on_cache_requested(event: AnyEvent, uow: Unit) -> None:
        """Record the wish."""
        data: CacheRequested = event.data
        cmd = RequestCache(
            site=data.site,
            project=event.project,
            dataset=data.dataset,
            version=data.version,
            commit=data.commit,
            desired=data.desired,
            asked=Asked(max(1, event.sequence), event.id),
            cause=cause_of(event),
        )
        await request_cache(cmd, uow=uow, clock=clock)
        uow.after_commit(kick)

    async def on_dataset_committed(event: AnyEvent, uow: Unit) -> None:
        """Wish the new version present wherever its dataset is prefetched."""
        data: DatasetCommitted = event.data
        for rule in prefetch:
            if (rule.project, rule.dataset) == (event.project, data.dataset):
                cmd = RequestCache(
                    site=rule.site,
                    project=event.project,
                    dataset=data.dataset,
                    version=data.version,
                    commit=data.commit,
                    desired="present",
                    asked=Asked(data.version, event.id),
                    cause=cause_of(event),
                )
                await request_cache(cmd, uow=uow, clock=clock)
                uow.after_commit(kick)

    return [
        Subscription("cache-manager-on-cache-requested", CacheRequested, on_cache_requested),
        Subscription("cache-manager-on-dataset-committed", DatasetCommitted, on_dataset_committed),
    ]


def cause_of(event: AnyEvent) -> Cause:
    """Return the part of an event that the answer to it will carry."""
    return Cause(
        event=encode(event),
        principal=event.principal,
        correlation=event.correlationid,
        traceparent=event.traceparent,
    )
