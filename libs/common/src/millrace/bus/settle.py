"""Owns the end of every delivery: acknowledged twice, delivered again later, or copied to the dead letters.

A message is only given up once its copy is confirmed by the dead-letter stream. While a delivery is handled, the
server hears of it every third of the acknowledgement period.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import structlog
from faststream import BaseMiddleware
from faststream.message import StreamMessage
from nats.aio.msg import Msg

from millrace.bus import dead_letters
from millrace.bus.acks import Acks
from millrace.bus.messages import Position, position
from millrace.bus.metrics import HANDLED, REDELIVERED
from millrace.bus.names import dead_letter_subject
from millrace.bus.verdict import Refuse, Retry, delay_after, judge
from millrace.errors import MillraceError
from millrace.events.envelope import AnyEvent, Event
from millrace.failpoints import fp
from millrace.publishing import Publisher

log = structlog.get_logger(__name__)

CANCELLED_DELAY = 0.2


class Settler:
    """Settles the deliveries of one connection."""

    def __init__(self, *, service: str, acks: Acks, publisher: Publisher, ack_wait: float, attempts: int) -> None:
        self.acks = acks
        self.heartbeat = ack_wait / 3
        self._service = service
        self._publisher = publisher
        self._attempts = attempts
        self._done: dict[str, Any] = {}

    def __call__(self, msg: Any, *, context: Any) -> SettleMiddleware:
        """Return the middleware of one message; FastStream calls this."""
        return SettleMiddleware(msg, context=context, settler=self)

    async def succeeded(self, message: Msg) -> None:
        """Acknowledge. Should the answer be lost, the message comes again and the inbox knows it."""
        await fp("commit.D11.before")
        try:
            await self.acks.ack(message.reply)
        except MillraceError as error:
            log.warning("acknowledgement not confirmed", subject=message.subject, reason=error.message)
            self._count(message, "unconfirmed")
        else:
            self._count(message, "acked")
        await fp("commit.D11.after")

    async def failed(self, message: Msg, error: BaseException, event: AnyEvent | None) -> None:
        """Retry later, or refuse for good."""
        at = position(message.reply)
        verdict = judge(error, at.delivered, attempts=self._attempts)
        if isinstance(verdict, Retry):
            await self._retry(message, at, verdict.delay, error)
        else:
            await self._refuse(message, at, verdict, error, event)

    async def cancelled(self, message: Msg) -> None:
        """Give a delivery back that was cut off by a stop."""
        await self.acks.nak(message.reply, CANCELLED_DELAY)
        self._count(message, "cancelled")

    async def _retry(self, message: Msg, at: Position, delay: float, error: BaseException) -> None:
        log.warning(
            "event is retried",
            subject=message.subject,
            delivered=at.delivered,
            retry_in=delay,
            reason=repr(error)[:500],
        )
        await self.acks.nak(message.reply, delay)
        self._count(message, "retried")

    async def _refuse(
        self, message: Msg, at: Position, verdict: Refuse, error: BaseException, event: AnyEvent | None
    ) -> None:
        headers = dead_letters.headers_of(
            at,
            service=self._service,
            subject=message.subject,
            reason=verdict.reason,
            error=type(error).__name__,
            original=message.headers or {},
            event=event,
        )
        subject = dead_letter_subject(self._service, at.durable)
        try:
            await self._publisher.publish(
                subject, message.data, message_id=dead_letters.message_id(at), headers=headers
            )
        except MillraceError as failure:
            log.exception("dead letter not stored; the event stays", subject=subject, reason=failure.message)
            await self.acks.nak(message.reply, delay_after(max(at.delivered, 4)))
            self._count(message, "stuck")
            return
        await self.acks.term(message.reply)
        self._count(message, "dead-lettered")
        unforeseen = error if not isinstance(error, MillraceError) else None
        log.error(
            "event is a dead letter",
            subject=message.subject,
            stream=at.stream,
            sequence=at.sequence,
            delivered=at.delivered,
            reason=headers["Millrace-Reason"],
            exc_info=unforeseen,
        )

    def _count(self, message: Msg, outcome: str) -> None:
        tokens = message.reply.split(".", 5)
        durable = tokens[3] if len(tokens) == 6 else "?"
        counter = self._done.get(durable + outcome)
        if counter is None:
            counter = self._done[durable + outcome] = HANDLED.labels(durable, outcome)
        counter.inc()
        if tokens[4] != "1":
            REDELIVERED.labels(durable).inc()


class SettleMiddleware(BaseMiddleware[Any, Msg]):
    """One delivery. The end is decided in `__aexit__`, where errors of parsing arrive too."""

    __slots__ = ("_event", "_settler", "_timer")

    def __init__(self, msg: Any, /, *, context: Any, settler: Settler) -> None:
        super().__init__(msg, context=context)
        self._settler = settler
        self._event: AnyEvent | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Start the heartbeat."""
        self._beat_later()
        return self

    async def consume_scope(self, call_next: Any, msg: StreamMessage[Any]) -> Any:
        """Remember the event, for the headers of a dead letter."""
        decoded = await msg.decode()
        if isinstance(decoded, Event):
            self._event = decoded
        return await call_next(msg)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool:
        """Settle. Errors are spent here; a cancellation goes on."""
        if self._timer is not None:
            self._timer.cancel()
        message = self.msg
        if exc_val is None:
            await self._settler.succeeded(message)
        elif isinstance(exc_val, Exception):
            await self._settler.failed(message, exc_val, self._event)
            return True
        else:
            await self._settler.cancelled(message)
        return False

    def _beat_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._settler.heartbeat, self._beat)

    def _beat(self) -> None:
        self._beat_later()
        task = asyncio.ensure_future(self._settler.acks.working(self.msg.reply))
        task.add_done_callback(_ignore)


def _ignore(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("heartbeat not sent", reason=repr(task.exception()))
