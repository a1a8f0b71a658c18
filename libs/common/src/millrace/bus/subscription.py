"""What a service wants to hear, and what it does then. Free of drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from millrace.events.envelope import AnyEvent, EventData


class _Everything:
    """Marker: every event type that is known here."""

    def __repr__(self) -> str:
        return "ALL"


class _DeadLetters:
    """Marker: messages of the dead-letter stream."""

    def __repr__(self) -> str:
        return "DEAD_LETTERS"


ALL: Final = _Everything()
DEAD_LETTERS: Final = _DeadLetters()

Wanted = type[EventData] | tuple[type[EventData], ...] | _Everything | _DeadLetters


@dataclass(frozen=True)
class DeadLetter:
    """A message that a consumer could not take, as the dead-letter stream holds it.

    `raw` are the original bytes, which need not be an event. `id` is the same for every copy of the dead letter.
    """

    id: str
    durable: str
    service: str
    reason: str
    error: str
    attempts: int
    subject: str
    stream: str
    sequence: int
    raw: bytes
    headers: dict[str, str]
    traceparent: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    project: str | None = None
    correlation: str | None = None

    @property
    def key(self) -> str:
        """Return what this dead letter is deduplicated by."""
        return self.id


@dataclass(frozen=True)
class Subscription:
    """One durable consumer and its handler.

    `handler(event, uow)` runs inside the transactor with `inbox=(durable, event.key)`; with `transactional=False` it is
    `handler(event)`, outside any transaction, and must be idempotent itself. With `event=DEAD_LETTERS` the handler gets
    a `DeadLetter`. Handlers are quick: long work is recorded in the database and done by a reconciler.

    Events of one aggregate that are fetched together are handled one after the other, in stream order. A retried event
    comes later than its successors all the same: handlers compare `event.sequence`.

    An error whose class is `transient` is retried with a growing delay; any other is dead-lettered with its reason
    (`Invalid` and the like at once, errors that nobody foresaw after a few attempts).
    """

    durable: str
    event: Wanted
    handler: Callable[..., Awaitable[None]]
    transactional: bool = True
    batch: int = 32

    def wants(self, event: AnyEvent) -> bool:
        """Return whether `event` is of a type that this subscription names."""
        if isinstance(self.event, _Everything):
            return True
        return not isinstance(self.event, _DeadLetters) and isinstance(event.data, self.event)


Handled = AnyEvent | DeadLetter
AnyTransact = Callable[..., Awaitable[Any]]
"""A `Transact`, whatever its unit of work."""
