"""What the catalog hears: every event, and every dead letter."""

from __future__ import annotations

from functools import partial

from catalog.application.dead_letters import NO_PROJECT, keep_dead_letter
from catalog.application.ports import Unit
from catalog.application.projections.receive import receive
from catalog.domain.records import DeadLetter as Letter
from millrace.bus import ALL, DEAD_LETTERS, DeadLetter, Subscription
from millrace.clock import Clock
from millrace.events import AnyEvent


async def on_event(event: AnyEvent, uow: Unit, *, clock: Clock) -> None:
    """Log it, learn from it, and run the policies that it concerns."""
    await receive(event, uow=uow, clock=clock)


async def on_dead_letter(letter: DeadLetter, uow: Unit, *, clock: Clock) -> None:
    """Keep it until somebody looks."""
    await keep_dead_letter(
        Letter(
            id=letter.id,
            project=letter.project or NO_PROJECT,
            service=letter.service,
            durable=letter.durable,
            subject=letter.subject,
            stream=letter.stream,
            sequence=letter.sequence,
            reason=letter.reason,
            error=letter.error,
            attempts=letter.attempts,
            headers=letter.headers,
            raw=letter.raw,
            event=letter.event_id,
            type=letter.event_type,
            correlation=letter.correlation,
            at=clock.now(),
        ),
        uow=uow,
    )


def subscriptions(clock: Clock) -> list[Subscription]:
    """Return the catalog's durables and their handlers."""
    return [
        Subscription("catalog-on-event", ALL, partial(on_event, clock=clock), batch=64),
        Subscription("catalog-on-dead-letter", DEAD_LETTERS, partial(on_dead_letter, clock=clock)),
    ]
