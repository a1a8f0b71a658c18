"""One connection of a service: FastStream's broker, its consumers, and the watch over them.

nats-py reconnects for ever by itself. When the server closes a connection for good (a refused login after its
configuration changed), the bus throws the session away and opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from faststream import AckPolicy
from faststream.nats import NatsBroker
from faststream.nats.security import NatsNKey
from nats.aio.client import Client
from nats.errors import Error as NatsError

from millrace.bus import jetstream, metrics
from millrace.bus.acks import Acks
from millrace.bus.codec import CloudEventsCodec
from millrace.bus.consumption import Consumption, Handler
from millrace.bus.lives import Lives
from millrace.bus.replies import Replies
from millrace.bus.settle import Settler
from millrace.bus.subscription import Subscription
from millrace.bus.topology import Consumer, inbox_prefix
from millrace.cancellation import mend_wait_for
from millrace.errors import Unavailable
from millrace.publishing import Publisher
from millrace.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

RECONNECT_SECONDS: Any = 0.5  # nats-py sleeps for it; only its annotation wants whole seconds
CONNECT_SECONDS = 2
GRACE_SECONDS = 8.0
QUIET_SECONDS = 30.0
"""The same connection error is logged once in this time."""

faststream_log = logging.getLogger("millrace.bus.faststream")
faststream_log.setLevel(logging.CRITICAL)  # connection errors and failed handlers are logged by us


class _Broker(NatsBroker):
    """FastStream's broker with a connection that is ours to lose: closed when opening it fails or is cancelled.

    FastStream also wraps the error callback so that it raises on a refused login, which would kill nats-py's task
    that reconnects and leave the connection in limbo for ever; ours stays a callback.
    """

    callbacks: Mapping[str, Any]

    async def _connect(self) -> Client:
        client = Client()
        try:
            await client.connect(**{**self._connection_kwargs, **self.callbacks})
        except BaseException:
            await client.close()
            raise
        self.config.connect(client)
        return client


class Session:
    """Opened once, closed once."""

    def __init__(
        self,
        *,
        service: str,
        servers: Sequence[str],
        seed_file: Path | None,
        publisher: Publisher,
        on_error: Callable[[str], None],
        ack_wait: float,
        attempts: int,
    ) -> None:
        self.closed = asyncio.Event()
        self.consumptions: list[Consumption] = []
        self.lives = Lives(self._created)
        self._replies: Replies | None = None
        self._acks: Acks | None = None
        self._service = service
        self._publisher = publisher
        self._on_error = on_error
        self._ack_wait = ack_wait
        self._attempts = attempts
        self._said: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None
        self.broker = _Broker(
            list(servers),
            name=f"millrace-{service}",
            security=None if seed_file is None else NatsNKey.from_file(seed_file),
            inbox_prefix=inbox_prefix(service),
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_SECONDS,
            connect_timeout=CONNECT_SECONDS,
            ping_interval=10,
            max_outstanding_pings=2,
            drain_timeout=3,
            graceful_timeout=GRACE_SECONDS,
            ack_policy=AckPolicy.MANUAL,
            codec=CloudEventsCodec(),
            middlewares=[self._settle],
            apply_types=False,
            logger=faststream_log,
            log_level=logging.DEBUG,
        )
        self.broker.callbacks = {
            "error_cb": self._error,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._closed,
        }
        self._settler: Settler | None = None

    async def _created(self, stream: str, durable: str) -> str:
        return str((await jetstream.consumer_info(self.replies, stream, durable))["created"])

    def _settle(self, msg: Any, *, context: Any) -> Any:
        if self._settler is None:
            raise Unavailable("the session is not open")
        return self._settler(msg, context=context)

    @property
    def connection(self) -> Client:
        """Return the connection of this session."""
        return self.broker.connection

    def add(self, subscription: Subscription, consumer: Consumer, handler: Handler) -> None:
        """Consume a durable once the session is open."""
        self.consumptions.append(
            Consumption(self.broker, subscription, consumer, handler, replies=lambda: self.replies, lives=self.lives)
        )

    async def open(self) -> None:
        """Connect; wait for the server, and for it to accept this user, as long as it takes."""
        mend_wait_for()
        await self.broker.connect()
        self._replies = Replies(self.connection)
        await self._replies.open()
        self._acks = Acks(self._replies)
        self._settler = Settler(
            service=self._service,
            acks=self._acks,
            publisher=self._publisher,
            lives=self.lives,
            ack_wait=self._ack_wait,
            attempts=self._attempts,
        )
        metrics.CONNECTED.set(1)
        log.info(
            "connected to NATS", server=self.connection.connected_url.netloc if self.connection.connected_url else ""
        )
        self._tasks = [asyncio.create_task(item.run(), name=item.durable) for item in self.consumptions]

    async def subscribe_core(self, subject: str, callback: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Call `callback(subject, payload)` for each unstored message; in force once this returns, if connected."""

        async def arrived(message: Any) -> None:
            try:
                await callback(message.subject, message.data)
            except Exception:
                log.exception("telemetry handler broke", subject=message.subject)

        await self.connection.subscribe(subject, cb=arrived)
        with contextlib.suppress(NatsError, TimeoutError):
            for _ in range(2):  # nats-py's PING overtakes what its flusher has not written yet; a second one cannot
                await self.connection.flush(timeout=CONNECT_SECONDS)

    async def close(self) -> None:
        """Stop fetching, let handlers finish within 8 s, flush, close. A cancelled caller does not cut it short."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._close())
        await asyncio.shield(self._ending)

    async def _close(self) -> None:
        for consumption in self.consumptions:
            consumption.close()
        await cancel_and_wait(self._tasks)
        await asyncio.gather(*(item.stop() for item in self.consumptions), return_exceptions=True)
        metrics.CONNECTED.set(0)
        with contextlib.suppress(Exception):
            connection = self.connection
            if connection.is_connected:
                await self.broker.stop()
            else:
                await connection.close()

    async def _error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        metrics.ERRORS.labels(type(error).__name__).inc()
        self._on_error(text)
        now = asyncio.get_running_loop().time()
        if now - self._said.get(text, float("-inf")) > QUIET_SECONDS:
            self._said[text] = now
            log.warning("NATS connection", reason=text)

    async def _disconnected(self) -> None:
        metrics.CONNECTED.set(0)
        self.lives.broken()
        for consumption in self.consumptions:
            consumption.doubt()
        if self._replies is not None:
            self._replies.broken()
        if self._ending is None:
            log.warning("disconnected from NATS")

    async def _reconnected(self) -> None:
        metrics.CONNECTED.set(1)
        self._said.clear()
        log.info("reconnected to NATS")
        for consumption in self.consumptions:
            consumption.wake()

    async def _closed(self) -> None:
        metrics.CONNECTED.set(0)
        self.closed.set()

    @property
    def replies(self) -> Replies:
        """Return what waits for answers on this session."""
        if self._replies is None:
            raise Unavailable("the session is not open")
        return self._replies

    def acknowledger(self) -> Acks:
        """Return what settles messages of this session."""
        if self._acks is None:
            raise Unavailable("the session is not open")
        return self._acks

    def require(self) -> Client:
        """Return the connection if it is up.

        Raises:
            Unavailable: it is not.
        """
        connection = self.connection
        if not connection.is_connected:
            raise Unavailable("not connected to NATS")
        return connection
