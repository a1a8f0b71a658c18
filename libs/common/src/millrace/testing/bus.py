"""The bus in memory: every subscription hears every event it wants, in an order and a multiplicity the test chooses."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from millrace.bus.subscription import AnyTransact, DeadLetter, Subscription
from millrace.bus.verdict import Refuse, judge
from millrace.errors import Invalid
from millrace.events import decode, encode
from millrace.events.envelope import AnyEvent
from millrace.testing.transactor import MemoryDatabase


@dataclass
class _Delivery:
    durable: str
    subject: str
    raw: bytes
    delivered: int = 0


class InMemoryBus:
    """Delivers raw events to subscriptions and settles them by the same verdicts as the real bus.

    Retries are delivered without waiting, behind what already waits. `copies` and `seed` make each delivery happen
    several times and in another order: handlers must not mind.
    """

    def __init__(self, *, service: str = "test", copies: int = 1, seed: int | None = None) -> None:
        self.dead_letters: list[DeadLetter] = []
        self.service = service
        self._copies = copies
        self._random = random.Random(seed) if seed is not None else None  # noqa: S311 - test order
        self._subscriptions: dict[str, tuple[Subscription, AnyTransact | None]] = {}
        self._queue: list[_Delivery] = []
        self._taken: dict[int, int] = {}

    def subscribe(self, subscriptions: Sequence[Subscription], transactor: AnyTransact | None = None) -> None:
        """Consume with these subscriptions."""
        for subscription in subscriptions:
            if subscription.transactional and transactor is None:
                raise Invalid(f"{subscription.durable} is transactional and has no transactor")
            self._subscriptions[subscription.durable] = (subscription, transactor)

    def publish(self, events: Iterable[AnyEvent]) -> None:
        """Queue events for every subscription that wants their type."""
        for event in events:
            self.publish_raw(event.bus_subject, encode(event))

    def publish_raw(self, subject: str, raw: bytes) -> None:
        """Queue bytes for every subscription whose filter would match the subject."""
        for durable, (subscription, _) in self._subscriptions.items():
            if _matches(subscription, subject):
                self._queue += [_Delivery(durable, subject, raw) for _ in range(self._copies)]
        if self._random is not None:
            self._random.shuffle(self._queue)

    async def drain(self, *databases: MemoryDatabase, limit: int = 10_000) -> int:
        """Deliver until nothing waits, taking events that the databases commit meanwhile; return the deliveries.

        Raises:
            AssertionError: more than `limit` deliveries: handlers feed each other for ever.
        """
        count = 0
        self._take(databases)
        while self._queue:
            count += 1
            if count > limit:
                raise AssertionError(f"more than {limit} deliveries")
            await self._deliver(self._queue.pop(0))
            self._take(databases)
        return count

    def _take(self, databases: Iterable[MemoryDatabase]) -> None:
        for database in databases:
            start = self._taken.get(id(database), 0)
            fresh = database.events[start:]
            self._taken[id(database)] = start + len(fresh)
            self.publish(fresh)

    async def _deliver(self, delivery: _Delivery) -> None:
        delivery.delivered += 1
        subscription, transact = self._subscriptions[delivery.durable]
        try:
            event = _wanted(subscription, decode(delivery.raw, subject=delivery.subject))
            await _call(subscription, event, transact)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is settled
            verdict = judge(error, delivery.delivered)
            if isinstance(verdict, Refuse):
                self.dead_letters.append(self._dead_letter(delivery, verdict.reason, error))
            else:
                self._queue.append(delivery)

    def _dead_letter(self, delivery: _Delivery, reason: str, error: Exception) -> DeadLetter:
        return DeadLetter(
            id=f"{delivery.durable}-{len(self.dead_letters) + 1}",
            durable=delivery.durable,
            service=self.service,
            reason=reason,
            error=type(error).__name__,
            attempts=delivery.delivered,
            subject=delivery.subject,
            stream="EVENTS",
            sequence=0,
            raw=delivery.raw,
            headers={},
        )


def _wanted(subscription: Subscription, event: AnyEvent) -> AnyEvent:
    if not subscription.wants(event):
        raise Invalid(f"{subscription.durable} does not handle {event.type}")
    return event


async def _call(subscription: Subscription, event: AnyEvent, transact: AnyTransact | None) -> None:
    if not subscription.transactional or transact is None:
        await subscription.handler(event)
        return

    async def work(uow: object) -> None:
        await subscription.handler(event, uow)

    await transact(work, inbox=(subscription.durable, event.key))


def _matches(subscription: Subscription, subject: str) -> bool:
    parts = subject.split(".")
    if len(parts) < 3 or parts[0] != "evt":
        return False
    kinds = subscription.event
    if isinstance(kinds, tuple):
        return any(f"{parts[1]}.{parts[2]}" == kind.TYPE for kind in kinds)
    if isinstance(kinds, type):
        return f"{parts[1]}.{parts[2]}" == kinds.TYPE
    return repr(kinds) == "ALL"
