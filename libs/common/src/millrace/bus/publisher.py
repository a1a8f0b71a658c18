"""Stored publishes: message id, confirmation, and an error that says whether trying again can help."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError, TooManyStalledMsgsError

from millrace.bus import jetstream
from millrace.bus.names import CONTENT_TYPE, MESSAGE_ID
from millrace.errors import DeadlineExceeded, Forbidden, Invalid, MillraceError, TooLarge, Unavailable
from millrace.events.envelope import CONTENT_TYPE as CLOUD_EVENT
from millrace.publishing import Published

PUBLISH_SECONDS = 5.0
MESSAGE_TOO_LARGE = 10_054

_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)


class NatsPublisher:
    """Publishes through `publish_async`: many in flight, each confirmed by the server.

    It asks for the connection at each call, because a bus replaces a connection that was closed for good.
    """

    def __init__(self, connection: Callable[[], Client]) -> None:
        self._connection = connection
        self._context: tuple[Client, JetStreamContext] | None = None
        self._waiting: dict[str, set[asyncio.Future[PubAck]]] = {}

    async def publish(
        self, subject: str, raw: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Published:
        """Publish and wait for the confirmation. The same `message_id` is stored once within 20 minutes.

        Raises:
            Unavailable, DeadlineExceeded: not connected, no stream, or no answer within 5 s; it may be stored.
            Forbidden: this user may not publish on `subject`.
            TooLarge: the broker's limit.
        """
        context = self._jetstream()
        own = {CONTENT_TYPE: CLOUD_EVENT, **(headers or {}), MESSAGE_ID: message_id}
        try:
            future = await context.publish_async(subject, raw, headers=own, wait_stall=PUBLISH_SECONDS)
        except MaxPayloadError:
            raise TooLarge(f"{len(raw)} bytes are more than the broker takes") from None
        except TooManyStalledMsgsError:
            raise Unavailable("too many publishes are in flight") from None
        except NatsError as error:
            raise Unavailable(f"NATS: {error}") from None
        waiting = self._waiting.setdefault(subject, set())
        waiting.add(future)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                ack = await future
        except TimeoutError:
            raise DeadlineExceeded(f"the broker did not confirm a publish on {subject}") from None
        except (APIError, NoStreamResponseError) as error:
            raise _refused(subject, error) from None
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(subject, None)
        return Published(ack.stream, ack.seq, bool(ack.duplicate))

    async def stream_epoch(self, stream: str) -> str:
        """Return when `stream` was created, in the server's words.

        Raises:
            Unavailable: not connected, or no such stream now.
        """
        try:
            return str((await jetstream.stream_info(self._connection(), stream))["created"])
        except MillraceError as error:
            raise Unavailable(f"stream {stream}: {error.message}") from None

    def denied(self, text: str) -> None:
        """Take note of an error of the server: a denied publish gets no other answer, and fails at once by this."""
        found = _DENIED.search(text)
        if found is None:
            return
        denied = found.group(1).lower()
        for subject, futures in self._waiting.items():
            if subject.lower() == denied:
                for future in list(futures):
                    if not future.done():
                        future.set_exception(Forbidden(f"this user may not publish on {subject}"))

    def _jetstream(self) -> JetStreamContext:
        connection = self._connection()
        if not connection.is_connected:
            raise Unavailable("not connected to NATS")
        if self._context is None or self._context[0] is not connection:
            self._context = (connection, connection.jetstream(timeout=PUBLISH_SECONDS))
        return self._context[1]


def _refused(subject: str, error: Exception) -> MillraceError:
    if isinstance(error, NoStreamResponseError):
        return Unavailable(f"no stream takes {subject} now")
    if isinstance(error, APIError) and error.err_code == MESSAGE_TOO_LARGE:
        return TooLarge(f"the message is larger than the stream of {subject} takes")
    if isinstance(error, APIError) and error.code == 400:
        return Invalid(f"the broker refuses a publish on {subject}: {error.description}")
    return Unavailable(f"the broker refuses a publish on {subject}: {error}")
