"""A service's bus: it connects for ever, consumes durables, publishes, and can say why it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from millrace.bus.delivery import handler_of
from millrace.bus.messages import Acknowledger, RawMessage, position
from millrace.bus.metrics import TELEMETRY_DROPPED
from millrace.bus.publisher import NatsPublisher
from millrace.bus.pull import PullSubscription
from millrace.bus.replies import Replies
from millrace.bus.session import Session
from millrace.bus.subscription import AnyTransact, Subscription
from millrace.bus.topology import ACK_WAIT_SECONDS, ATTEMPTS, CONSUMERS, Consumer
from millrace.clock import Clock, SystemClock, new_id
from millrace.errors import Invalid, MillraceError, TooLarge, Unavailable
from millrace.publishing import Published
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

CoreCallback = Callable[[str, bytes], Awaitable[None]]


class Bus:
    """One per process, built in bootstrap, started from the lifespan.

        bus = Bus(service="trainer", servers=settings.nats_url, seed_file=settings.nats_seed_file)
        bus.subscribe([Subscription("trainer-on-cache-ready", CacheReady, on_cache_ready)], transactor)
        relay = Relay(client, database, bus.publisher, clock)
        await bus.start(); …; await bus.stop()

    `start()` returns at once; `health()` says what it waits for.
    """

    def __init__(
        self,
        *,
        service: str,
        servers: str | Sequence[str],
        seed_file: Path | None = None,
        clock: Clock | None = None,
        consumers: Mapping[str, Consumer] = CONSUMERS,
        ack_wait: float = ACK_WAIT_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.service = service
        self.publisher = NatsPublisher(self._replies)
        self._servers = [servers] if isinstance(servers, str) else list(servers)
        self._seed_file = seed_file
        self._clock: Clock = clock or SystemClock()
        self._consumers = consumers
        self._ack_wait = ack_wait
        self._attempts = attempts
        self._subscriptions: list[tuple[Subscription, AnyTransact | None]] = []
        self._core: list[tuple[str, CoreCallback]] = []
        self._raw: dict[tuple[str, str], tuple[Session, PullSubscription]] = {}
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._reason: str | None = "not started"

    def subscribe(self, subscriptions: Sequence[Subscription], transactor: AnyTransact | None = None) -> None:
        """Consume these durables once started. Transactional handlers run inside `transactor`.

        Raises:
            Invalid: a durable that the topology does not give to this service.
        """
        for subscription in subscriptions:
            consumer = self._consumers.get(subscription.durable)
            if consumer is None or consumer.service != self.service:
                raise Invalid(f"the topology gives {self.service} no consumer {subscription.durable}")
            if subscription.transactional and transactor is None:
                raise Invalid(f"{subscription.durable} is transactional and has no transactor")
            self._subscriptions.append((subscription, transactor))

    async def subscribe_core(self, subject: str, callback: CoreCallback) -> None:
        """Call `callback(subject, payload)` for each unstored message on `subject`, over all reconnects."""
        self._core.append((subject, callback))
        if self._session is not None:
            await self._session.subscribe_core(subject, callback)

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._task is None:
            self._reason = f"waits for NATS at {', '.join(self._servers)}"
            self._task = asyncio.create_task(self._run(), name="bus")

    async def stop(self) -> None:
        """Stop fetching, let handlers finish within 8 s, flush what is published, close."""
        task, self._task = self._task, None
        if self._session is not None:
            await self._session.close()
        if task is not None:
            await cancel_and_wait([task])
        self._reason = "stopped"

    def health(self) -> list[str]:
        """Return why the bus does not do all it should; empty means that it does."""
        session = self._session
        if session is None:
            return [self._reason or "not connected to NATS"]
        if not session.connection.is_connected:
            return [f"reconnects to NATS at {', '.join(self._servers)}"]
        return [f"{item.durable}: {item.reason}" for item in session.consumptions if item.reason is not None]

    async def check(self) -> str | None:
        """Return `health()` as one reason or None, the form that a runtime's check has."""
        return "; ".join(self.health()) or None

    async def wait_ready(self, seconds: float) -> None:
        """Wait until `health()` is empty.

        Raises:
            Unavailable: it is not within `seconds`.
        """
        deadline = self._clock.monotonic() + seconds
        while reasons := self.health():
            if self._clock.monotonic() > deadline:
                raise Unavailable(f"the bus is not ready: {'; '.join(reasons)}")
            await asyncio.sleep(0.02)

    async def publish_telemetry(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, stored: bool = False
    ) -> Published | None:
        """Publish on `tlm.…`. Unstored telemetry is dropped, and counted, while there is no connection.

        Stored telemetry is confirmed by its stream; give it a `Nats-Msg-Id` header, so that a repetition counts once.

        Raises:
            Invalid: not a telemetry subject.
            Unavailable, DeadlineExceeded, Forbidden, TooLarge: stored telemetry that was not stored.
        """
        if not subject.startswith("tlm."):
            raise Invalid("telemetry is published on tlm. subjects; events go through the outbox")
        if stored:
            own = dict(headers or {})
            message_id = own.pop("Nats-Msg-Id", None) or str(new_id())
            return await self.publisher.publish(subject, payload, message_id=message_id, headers=own)
        await self._publish_unstored(subject, payload, headers)
        return None

    async def _publish_unstored(self, subject: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        try:
            await self._connection().publish(subject, payload, headers=dict(headers) if headers else None)
        except (Unavailable, TooLarge, NatsError):
            TELEMETRY_DROPPED.labels(subject.split(".")[1]).inc()

    async def pull_raw(self, stream: str, durable: str, batch: int, *, seconds: float = 1.0) -> list[RawMessage]:
        """Return up to `batch` messages of a durable that has no subscription, none after `seconds`.

        Settle each of them; what is not settled within the acknowledgement period comes again.

        Raises:
            Unavailable: not connected, or the durable does not exist now.
        """
        session, pull = await self._raw_pull(stream, durable)
        found = await pull.fetch(batch, seconds)
        if not found and self._raw.get((stream, durable)) is None:
            raise Unavailable(f"consumer {durable} does not exist now")
        return [_raw(item, session.acknowledger()) for item in found]

    async def _raw_pull(self, stream: str, durable: str) -> tuple[Session, PullSubscription]:
        session = self._session
        if session is None:
            raise Unavailable("not connected to NATS")
        session.require()
        known = self._raw.get((stream, durable))
        if known is not None and known[0] is session:
            return known

        def lost() -> None:
            self._raw.pop((stream, durable), None)

        pull = PullSubscription(session.connection, stream, durable, on_lost=lost)
        await pull.open()
        self._raw[(stream, durable)] = (session, pull)
        return session, pull

    def _connection(self) -> Client:
        if self._session is None:
            raise Unavailable("not connected to NATS")
        return self._session.connection

    def _replies(self) -> Replies:
        if self._session is None:
            raise Unavailable("not connected to NATS")
        return self._session.replies

    async def _run(self) -> None:
        delay = 0.2
        while True:
            session = self._new_session()
            try:
                await session.open()
                for subject, callback in self._core:
                    await session.subscribe_core(subject, callback)
                self._session = session
                self._reason, delay = None, 0.2
                await session.closed.wait()
                self._reason = "the server closed the connection"
            except (NatsError, OSError, MillraceError) as error:
                self._reason = f"NATS refuses the connection: {error}"
                log.warning("no connection to NATS", reason=str(error), retry_in=delay)
            finally:
                self._session = None
                self._raw.clear()
                await session.close()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    def _new_session(self) -> Session:
        session = Session(
            service=self.service,
            servers=self._servers,
            seed_file=self._seed_file,
            publisher=self.publisher,
            on_error=self._on_error,
            ack_wait=self._ack_wait,
            attempts=self._attempts,
        )
        for subscription, transactor in self._subscriptions:
            consumer = self._consumers[subscription.durable]
            handler = handler_of(subscription, consumer, transactor, self._clock)
            session.add(subscription, consumer, handler)
        return session

    def _on_error(self, text: str) -> None:
        self.publisher.denied(text)
        if self._session is None:
            self._reason = f"waits for NATS at {', '.join(self._servers)}: {text}"


def _raw(item: Msg, acknowledger: Acknowledger) -> RawMessage:
    return RawMessage(item.subject, item.data, dict(item.headers or {}), position(item.reply), item.reply, acknowledger)
