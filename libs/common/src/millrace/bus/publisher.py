"""Stored publishes: message id, confirmation, and an error that says whether trying again can help."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError

from millrace.bus import jetstream
from millrace.bus.names import CONTENT_TYPE, MESSAGE_ID
from millrace.bus.replies import Replies
from millrace.errors import DeadlineExceeded, Forbidden, Invalid, MillraceError, TooLarge, Unavailable
from millrace.events.envelope import CONTENT_TYPE as CLOUD_EVENT
from millrace.publishing import Published

PUBLISH_SECONDS = 5.0
MESSAGE_TOO_LARGE = 10_054

_DENIED = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE)


class NatsPublisher:
    """Publishes and waits for the server's word; many publishes may be in flight.

    It asks for the connection at each call, because a bus replaces a connection that was closed for good.
    """

    def __init__(self, replies: Callable[[], Replies]) -> None:
        self._replies = replies
        self._waiting: dict[str, set[asyncio.Future[Msg]]] = {}

    async def publish(
        self, subject: str, raw: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Published:
        """Publish and wait for the confirmation. The same `message_id` is stored once within 20 minutes.

        Raises:
            Unavailable, DeadlineExceeded: not connected, no stream, or no answer within 5 s; it may be stored.
            Forbidden: this user may not publish on `subject`.
            TooLarge: the broker's limit.
        """
        own = {CONTENT_TYPE: CLOUD_EVENT, **(headers or {}), MESSAGE_ID: message_id}
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(subject, set())
        waiting.add(future)
        try:
            answer = await self._replies().ask(subject, raw, headers=own, seconds=PUBLISH_SECONDS, future=future)
        except TimeoutError:
            raise DeadlineExceeded(f"the broker did not confirm a publish on {subject}") from None
        except NoRespondersError:
            raise Unavailable(f"no stream takes {subject} now") from None
        except MaxPayloadError:
            raise TooLarge(f"{len(raw)} bytes are more than the broker takes") from None
        except NatsError as error:
            raise Unavailable(f"NATS: {error}") from None
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(subject, None)
        return _published(subject, answer)

    async def stream_epoch(self, stream: str) -> str:
        """Return when `stream` was created, in the server's words.

        Raises:
            Unavailable: not connected, or no such stream now.
        """
        try:
            return str((await jetstream.stream_info(self._replies(), stream))["created"])
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


def _published(subject: str, answer: Msg) -> Published:
    document: dict[str, Any] = json.loads(answer.data)
    if refusal := document.get("error"):
        raise _refused(subject, refusal)
    return Published(document["stream"], document["seq"], bool(document.get("duplicate")))


def _refused(subject: str, error: Mapping[str, Any]) -> MillraceError:
    text = f"the broker refuses a publish on {subject}: {error.get('description')}"
    if error.get("err_code") == MESSAGE_TOO_LARGE:
        return TooLarge(text)
    return Invalid(text) if error.get("code") == 400 else Unavailable(text)
