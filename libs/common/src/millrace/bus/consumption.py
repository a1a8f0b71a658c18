"""One durable of one session: waits for it, consumes, measures its lag, notices its loss, begins again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import structlog
from faststream.nats import JStream, NatsBroker, PullSub

from millrace.bus import jetstream, metrics
from millrace.bus.lives import Lives
from millrace.bus.pull import PullSubscription
from millrace.bus.replies import Replies
from millrace.bus.subscription import Handled, Subscription
from millrace.bus.topology import Consumer
from millrace.errors import MillraceError, NotFound
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0
ABSENT_SECONDS = 0.3
FETCH_SECONDS = 5.0

Handler = Callable[[Handled], Awaitable[None]]


class Consumption:
    """Consumes while the durable exists. `reason` says why not, or is None."""

    def __init__(
        self,
        broker: NatsBroker,
        subscription: Subscription,
        consumer: Consumer,
        handler: Handler,
        *,
        replies: Callable[[], Replies],
        lives: Lives,
    ) -> None:
        self.durable = subscription.durable
        self.reason: str | None = "not started"
        self._broker = broker
        self._replies = replies
        self._lives = lives
        self._consumer = consumer
        self._wanted = asyncio.Event()
        self._known = asyncio.Event()
        self._batch = subscription.batch
        self._pull: PullSubscription | None = None
        self._closing = False
        self._handling: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Event()
        subscriber: Any = cast("Any", broker).subscriber(
            subject=consumer.durable,  # never used as one: the consumer's own filters decide
            durable=consumer.durable,
            stream=JStream(consumer.stream, declare=False),
            pull_sub=PullSub(batch_size=subscription.batch, timeout=FETCH_SECONDS),
            no_reply=True,
        )
        subscriber(handler)
        # FastStream parses the subject anew for the log context of every message; ours is always the same.
        subscriber.get_log_context = self._log_context
        self._subscriber = subscriber

    async def run(self) -> None:
        """Consume for ever; a lost durable is waited for."""
        while True:
            try:
                await self._look()
            except NotFound as error:
                self.doubt()  # running handlers go on; what they settle is looked at twice
                self._say(f"waits for the provisioner: {error.message}")
                await self._pause(ABSENT_SECONDS)
            except MillraceError as error:
                self._say(error.message)
                await self._pause(ABSENT_SECONDS)
            else:
                self.reason = None
                await self._pause(WATCH_SECONDS)

    def doubt(self) -> None:
        """Fetch nothing until the durable was looked at again: after a disconnect it may be another one."""
        self._known.clear()

    def wake(self) -> None:
        """Look at the durable now, and ask for messages anew: after a reconnect."""
        if self._pull is not None:
            self._pull.wake()
        self._wanted.set()

    def close(self) -> None:
        """Fetch no more."""
        self._closing = True
        if self._pull is not None:
            self._pull.close()

    async def stop(self) -> None:
        """Stop fetching; wait for handlers within the broker's grace."""
        pull, self._pull = self._pull, None
        if pull is not None:
            pull.close()
            with contextlib.suppress(Exception):
                await self._subscriber.stop()
            await cancel_and_wait(list(self._handling))

    async def _look(self) -> None:
        info = await jetstream.consumer_info(self._replies(), self._consumer.stream, self.durable)
        if self._lives.seen(self.durable, str(info["created"])):
            self._compare(info["config"])
        self._known.set()
        metrics.LAG.labels(self.durable).set(info.get("num_pending", 0))
        metrics.UNSETTLED.labels(self.durable).set(info.get("num_ack_pending", 0))
        if self._pull is None and not self._closing:
            await self._start()

    async def _start(self) -> None:
        pull = PullSubscription(self._broker.connection, self._consumer.stream, self.durable, on_lost=self._wanted.set)
        await pull.open()
        self._pull = pull
        # FastStream would ask nats-py for a subscription, which creates missing consumers; it finds ours in place,
        # and leaves the loop to us: its own fetches the next batch only when the slowest handler of one is done.
        self._subscriber.subscription = pull
        await self._subscriber.start()
        self._subscriber.add_task(self._consume, func_args=(pull,))
        log.info("consuming", durable=self.durable, stream=self._consumer.stream)

    async def _consume(self, pull: PullSubscription) -> None:
        """Keep up to a batch of handlers busy; fetch again as soon as half of them are free."""
        while self._subscriber.running:
            await self._known.wait()
            messages = await pull.fetch(self._batch - len(self._handling), FETCH_SECONDS)
            for message in messages:
                task = asyncio.create_task(self._subscriber.consume(message))
                self._handling.add(task)
                task.add_done_callback(self._handled)
            while len(self._handling) > self._batch // 2:
                self._room.clear()
                await self._room.wait()

    def _handled(self, task: asyncio.Task[Any]) -> None:
        self._handling.discard(task)
        if len(self._handling) <= self._batch // 2:
            self._room.set()

    def _log_context(self, _message: object = None) -> dict[str, str]:
        return {"subject": "", "queue": "", "stream": self._consumer.stream, "message_id": ""}

    def _compare(self, effective: Mapping[str, Any]) -> None:
        wanted = self._consumer.wanted()
        differing = sorted(key for key, value in wanted.items() if effective.get(key) != value)
        if differing:
            log.warning("consumer differs from the topology", durable=self.durable, fields=differing)

    def _say(self, reason: str) -> None:
        if reason != self.reason:
            log.warning("not consuming", durable=self.durable, reason=reason)
        self.reason = reason

    async def _pause(self, seconds: float) -> None:
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
