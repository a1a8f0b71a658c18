"""The capture stream, pulled from the bus: fetches are paced, kept alive while they are counted, and settled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

import structlog

from drift_monitor.application.ports import Delivery
from millrace.bus import Bus, RawMessage, dead_letters
from millrace.bus.names import INFERENCE, dead_letter_subject
from millrace.clock import Clock
from millrace.errors import MillraceError, TooLarge

log = structlog.get_logger(__name__)

DURABLE = "drift-monitor-on-inference"
FETCH = 64
"""Batches of one fetch: at most 64 MiB."""
IDLE_SECONDS = 1.0
GIVEN_BACK_SECONDS = 0.2
HEARTBEAT_SECONDS = 8.0
"""Well within the acknowledgement period of 30 s."""


class BusDelivery:
    """`Delivery` of one message."""

    def __init__(self, bus: Bus, message: RawMessage) -> None:
        self._bus = bus
        self._message = message
        self.settled = False

    @property
    def subject(self) -> str:
        """Return the subject it came on."""
        return self._message.subject

    @property
    def sequence(self) -> int:
        """Return its number in the stream."""
        return self._message.position.sequence

    @property
    def raw(self) -> bytes:
        """Return its bytes."""
        return self._message.data

    @property
    def attempts(self) -> int:
        """Return how often it was delivered."""
        return self._message.position.delivered

    async def ack(self) -> None:
        """Acknowledge, and wait until the server has taken it."""
        await self._message.ack()
        self.settled = True

    async def retry(self, delay: float) -> None:
        """Ask for another delivery."""
        self.settled = True
        await self._message.nak(delay)

    async def refuse(self, error: MillraceError) -> None:
        """Copy the message to the dead letters, then give it up. What is too large for them leaves its headers only."""
        at = self._message.position
        headers = dead_letters.headers_of(
            at,
            service=self._bus.service,
            subject=self.subject,
            reason=f"{error.code}: {error.message}",
            error=type(error).__name__,
            original=self._message.headers,
            event=None,
        )
        subject, key = dead_letter_subject(self._bus.service, at.durable), dead_letters.message_id(at)
        try:
            await self._bus.publisher.publish(subject, self.raw, message_id=key, headers=headers)
        except TooLarge:
            await self._bus.publisher.publish(subject, b"", message_id=key, headers=headers)
        await self._message.term()
        self.settled = True

    async def working(self) -> None:
        """Say that work goes on."""
        await self._message.in_progress()


class BusTap:
    """`Tap` on the bus's capture stream. `reason` says why nothing comes, if something is wrong."""

    def __init__(self, bus: Bus, clock: Clock, *, pace: float) -> None:
        self.reason: str | None = "not started"
        self._bus = bus
        self._clock = clock
        self._pace = pace

    async def batches(self) -> AsyncGenerator[Sequence[Delivery], None]:
        """Yield fetches, empty ones too after an idle second. At least `pace` seconds lie between two."""
        while True:
            try:
                messages = await self._bus.pull_raw(INFERENCE, DURABLE, FETCH, seconds=IDLE_SECONDS)
                self.reason = None
            except MillraceError as error:
                self.reason = error.message
                await self._clock.sleep(0.5)
                continue
            deliveries = [BusDelivery(self._bus, message) for message in messages]
            heart = asyncio.create_task(self._beat(deliveries))
            try:
                yield deliveries
            finally:
                heart.cancel()
                await self._give_back(deliveries)
            if 0 < len(messages) < FETCH:
                await self._clock.sleep(self._pace)

    async def _give_back(self, deliveries: Sequence[BusDelivery]) -> None:
        """Let deliveries that were cut off come again soon, instead of after the acknowledgement period."""
        for delivery in deliveries:
            if not delivery.settled:
                with contextlib.suppress(Exception):
                    await delivery.retry(GIVEN_BACK_SECONDS)

    async def _beat(self, deliveries: Sequence[BusDelivery]) -> None:
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            for delivery in deliveries:
                if not delivery.settled:
                    with contextlib.suppress(Exception):
                        await delivery.working()
