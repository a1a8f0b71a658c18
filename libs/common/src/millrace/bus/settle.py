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
from nats.errors import Error as NatsError

from millrace.bus import dead_letters
from millrace.bus.acks import Acks
from millrace.bus.lives import Life, Lives
from millrace.bus.messages import Position, address, position
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

    def __init__(
        self, *, service: str, acks: Acks, publisher: Publisher, lives: Lives, ack_wait: float, attempts: int
    ) -> None:
        self.acks = acks
        self.lives = lives
        self.heartbeat = ack_wait / 3
        self._service = service
        self._publisher = publisher
        self._attempts = attempts
        self._counters: dict[tuple[str, str], Any] = {}

    def __call__(self, msg: Any, *, context: Any) -> SettleMiddleware:
        """Return the middleware of one message; FastStream calls this."""
        return SettleMiddleware(msg, context=context, settler=self)

    async def settle(self, message: Msg, life: Life, error: BaseException | None, event: AnyEvent | None) -> None:
        """End a delivery. What cannot be settled now comes again after the acknowledgement period."""
        stream, durable, delivered = address(message.reply)
        if delivered != "1":
            REDELIVERED.labels(durable).inc()
        try:
            if not await self.lives.lasts(life, stream, durable):
                outcome = "outlived"
            elif error is None:
                outcome = await self._succeeded(message)
            elif isinstance(error, Exception):
                outcome = await self._failed(message, error, event)
            else:
                await self.acks.nak(message.reply, CANCELLED_DELAY)
                outcome = "cancelled"
        except (MillraceError, NatsError) as failure:
            log.warning("delivery not settled; it comes again", subject=message.subject, reason=str(failure))
            outcome = "unsettled"
        self._count(durable, outcome)

    async def _succeeded(self, message: Msg) -> str:
        """Acknowledge. Should the answer be lost, the message comes again and the inbox knows it."""
        await fp("commit.D11.before")
        await self.acks.ack(message.reply)
        await fp("commit.D11.after")
        return "acked"

    async def _failed(self, message: Msg, error: Exception, event: AnyEvent | None) -> str:
        """Retry later, or refuse for good."""
        at = position(message.reply)
        verdict = judge(error, at.delivered, attempts=self._attempts)
        if isinstance(verdict, Retry):
            return await self._retry(message, at, verdict.delay, error)
        return await self._refuse(message, at, verdict, error, event)

    async def _retry(self, message: Msg, at: Position, delay: float, error: Exception) -> str:
        log.warning(
            "event is retried",
            subject=message.subject,
            delivered=at.delivered,
            retry_in=delay,
            reason=repr(error)[:500],
        )
        await self.acks.nak(message.reply, delay)
        return "retried"

    async def _refuse(
        self, message: Msg, at: Position, verdict: Refuse, error: Exception, event: AnyEvent | None
    ) -> str:
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
            return "stuck"
        await self.acks.term(message.reply)
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
        return "dead-lettered"

    def _count(self, durable: str, outcome: str) -> None:
        counter = self._counters.get((durable, outcome))
        if counter is None:
            counter = self._counters[(durable, outcome)] = HANDLED.labels(durable, outcome)
        counter.inc()


class SettleMiddleware(BaseMiddleware[Any, Msg]):
    """One delivery. The end is decided in `__aexit__`, where errors of parsing arrive too."""

    __slots__ = ("_event", "_life", "_settler", "_timer")

    def __init__(self, msg: Any, /, *, context: Any, settler: Settler) -> None:
        super().__init__(msg, context=context)
        self._settler = settler
        self._life = settler.lives.current(address(msg.reply)[1])
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
        await self._settler.settle(self.msg, self._life, exc_val, self._event)
        return isinstance(exc_val, Exception)

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
