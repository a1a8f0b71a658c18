"""What the trainer hears on the bus."""

from __future__ import annotations

from collections.abc import Callable

from millrace.bus import Subscription
from millrace.clock import Clock
from millrace.events import AnyEvent, CacheFailed, CacheReady, TrainingRequested
from trainer.application.ports import TrainerUnit
from trainer.application.requests import record
from trainer.domain.components import Components


def subscriptions(components: Components, clock: Clock, kick: Callable[[], None]) -> list[Subscription]:
    """Return the durables; `kick` wakes the scheduler."""

    async def on_training_requested(event: AnyEvent, uow: TrainerUnit) -> None:
        await record(event, uow=uow, components=components, clock=clock, kick=kick)

    async def on_cache_news(_: AnyEvent) -> None:
        kick()

    return [
        Subscription("trainer-on-training-requested", TrainingRequested, on_training_requested),
        Subscription("trainer-on-cache-ready", CacheReady, on_cache_news, transactional=False),
        Subscription("trainer-on-cache-failed", CacheFailed, on_cache_news, transactional=False),
    ]
