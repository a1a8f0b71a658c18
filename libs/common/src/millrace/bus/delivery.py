"""From a decoded event to the handler: type check, span, turn, transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from millrace.bus.metrics import SECONDS
from millrace.bus.order import Turns
from millrace.bus.subscription import AnyTransact, DeadLetter, Handled, Subscription
from millrace.bus.topology import Consumer
from millrace.bus.tracing import Consuming
from millrace.clock import Clock
from millrace.errors import Invalid


class UnwantedEvent(Invalid):
    """The event is well formed, and not of a type that this consumer handles."""

    code = "unwanted-event"


def handler_of(
    subscription: Subscription, consumer: Consumer, transact: AnyTransact | None, clock: Clock
) -> Callable[[Handled], Awaitable[None]]:
    """Return the coroutine function that FastStream calls with each decoded message of a durable."""
    turns = Turns()
    seconds = SECONDS.labels(subscription.durable)

    async def handle(item: Handled) -> None:
        with Consuming(item, durable=subscription.durable, stream=consumer.stream):
            _check(subscription, item)
            key = _key(item)
            await turns.enter(key)
            started = clock.monotonic()
            try:
                await _call(subscription, item, transact)
            finally:
                turns.leave(key)
                seconds.observe(clock.monotonic() - started)

    return handle


async def _call(subscription: Subscription, item: Handled, transact: AnyTransact | None) -> None:
    if not subscription.transactional or transact is None:
        await subscription.handler(item)
        return

    async def work(uow: Any) -> None:
        await subscription.handler(item, uow)

    await transact(work, inbox=(subscription.durable, item.key))


def _check(subscription: Subscription, item: Handled) -> None:
    if not isinstance(item, DeadLetter) and not subscription.wants(item):
        raise UnwantedEvent(f"{subscription.durable} does not handle {item.type}")


def _key(item: Handled) -> str:
    if isinstance(item, DeadLetter):
        return item.id
    return f"{item.project}/{item.type.partition('.')[0]}/{item.subject}"
