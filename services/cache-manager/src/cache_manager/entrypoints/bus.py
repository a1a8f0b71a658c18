"""From events to wishes. A handler records and kicks; the reconciler does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cache_manager.application.forgetting import forget_removed
from cache_manager.application.ports import Unit
from cache_manager.application.prefetching import prefetch_commit, prefetch_run
from cache_manager.application.requests import RequestCache, request_cache
from cache_manager.domain.entry import Asked, Cause
from cache_manager.domain.prefetch import Prefetch as Rule
from cache_manager.domain.selection import Selection
from cache_manager.settings import Prefetch
from millrace.bus import Subscription
from millrace.clock import Clock
from millrace.events import CacheRequested, DatasetCommitted, DatasetRemoved, Selected, TrainingRequested, encode
from millrace.events.envelope import AnyEvent


def subscriptions(clock: Clock, kick: Callable[[], None], prefetch: Sequence[Prefetch]) -> list[Subscription]:
    """Return what the cache manager wants to hear. `prefetch`: rules of the settings, beside those in the database."""
    of_settings = [Rule(rule.project, rule.dataset, "commit", rule.dataset, rule.site) for rule in prefetch]

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
            selection=_selection(data.selected),
        )
        await request_cache(cmd, uow=uow, clock=clock)
        uow.after_commit(kick)

    async def on_dataset_committed(event: AnyEvent, uow: Unit) -> None:
        """Wish the new version present wherever its dataset is prefetched."""
        data: DatasetCommitted = event.data
        wish = _wish(event, site="", asked=Asked(data.version, event.id))
        if await prefetch_commit(wish, of_settings, uow=uow, clock=clock):
            uow.after_commit(kick)

    async def on_dataset_removed(event: AnyEvent, uow: Unit) -> None:
        """Wish the copies of what was removed away; they go when nothing reads them."""
        data: DatasetRemoved = event.data
        asked = Asked(id=event.id)
        if await forget_removed(event.project, data, asked=asked, cause=cause_of(event), uow=uow, clock=clock):
            uow.after_commit(kick)

    async def on_training_requested(event: AnyEvent, uow: Unit) -> None:
        """Wish a run's version present where it will run, if a rule says so: the queue may be long."""
        data: TrainingRequested = event.data
        wish = replace(_wish(event, site=data.site, asked=Asked(id=event.id)), selection=_selection(data.selected))
        if await prefetch_run(wish, uow=uow, clock=clock):
            uow.after_commit(kick)

    return [
        Subscription("cache-manager-on-cache-requested", CacheRequested, on_cache_requested),
        Subscription("cache-manager-on-dataset-committed", DatasetCommitted, on_dataset_committed),
        Subscription("cache-manager-on-dataset-removed", DatasetRemoved, on_dataset_removed),
        Subscription("cache-manager-on-training-requested", TrainingRequested, on_training_requested),
    ]


def _wish(event: AnyEvent, *, site: str, asked: Asked) -> RequestCache:
    """Return the wish for the version that an event is about."""
    return RequestCache(
        site=site,
        project=event.project,
        dataset=event.data.dataset,
        version=event.data.version,
        commit=event.data.commit,
        desired="present",
        asked=asked,
        cause=cause_of(event),
    )


def _selection(selected: Selected) -> Selection:
    return Selection(selected.mode, selected.paths)


def cause_of(event: AnyEvent) -> Cause:
    """Return the part of an event that the answer to it will carry."""
    return Cause(
        event=encode(event),
        principal=event.principal,
        correlation=event.correlationid,
        traceparent=event.traceparent,
    )
