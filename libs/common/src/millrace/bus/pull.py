"""Fetching from a durable: what FastStream's pull subscriber calls instead of nats-py's `fetch`.

nats-py's own takes any message with a `Status` header for a word of the server, so that one hostile header would
break a consumer for good; it spins while a consumer is missing; and it makes a task per message. Here the two kinds
are told apart by their reply subject, a missing consumer costs a pause, and arrivals are collected by a callback.

Each fetch first asks for what is there (`no_wait`); only if that is nothing it waits for one message. So nothing is
delivered that nobody handles, and the acknowledgement period never runs out in a buffer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from millrace.bus.messages import DATA_REPLY

PAUSE_SECONDS = 0.25
ANSWER_SECONDS = 3.0
"""How long the answer to a `no_wait` request may take before it counts as lost."""

NAK_ON_CLOSE = b'-NAK {"delay": 200000000}'
NO_RESPONDERS = "503"


class PullSubscription:
    """Pulls from one durable. `on_lost` is called when the server says that the consumer is gone."""

    def __init__(self, connection: Client, stream: str, durable: str, *, on_lost: Callable[[], None]) -> None:
        self._connection = connection
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = connection.new_inbox()
        self._on_lost = on_lost
        self._numbers = itertools.count()
        self._subscription: Subscription | None = None
        self._buffer: list[Msg] = []
        self._request = ""
        self._wanted = 0
        self._ended = False
        self._closing = False
        self._signal = asyncio.Event()

    async def open(self) -> None:
        """Subscribe to the deliveries."""
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", cb=self._arrived)

    async def fetch(self, batch: int = 1, timeout: float | None = 5.0) -> list[Msg]:  # noqa: ASYNC109 - FastStream's
        """Return 1 to `batch` messages, or none after `timeout` seconds or a reconnect."""
        if not self._open():
            await asyncio.sleep(PAUSE_SECONDS / 5)
            return []
        waiting = timeout or 5.0
        found = await self._ask({"batch": batch, "no_wait": True}, batch, ANSWER_SECONDS)
        if not found and self._open():
            expires = int(waiting * 1e9)
            found = await self._ask({"batch": 1, "expires": expires}, 1, waiting + 1.0)
        if found and self._closing:
            await self._give_back(found)
            return []
        return found

    async def unsubscribe(self) -> None:
        """Stop deliveries."""
        self._closing = True
        self._signal.set()
        if self._subscription is not None and not self._connection.is_closed:
            await self._subscription.unsubscribe()

    def close(self) -> None:
        """Take no more: what still arrives is given back for another delivery."""
        self._closing = True
        self._signal.set()

    def wake(self) -> None:
        """End a wait whose request the server has forgotten: after a reconnect."""
        self._ended = True
        self._signal.set()

    def _open(self) -> bool:
        return not self._closing and bool(self._connection.is_connected)

    async def _ask(self, request: dict[str, object], wanted: int, seconds: float) -> list[Msg]:
        self._request = f"{self._inbox}.{next(self._numbers)}"
        self._wanted, self._ended = wanted, False
        self._signal.clear()
        await self._connection.publish(self._next, json.dumps(request).encode(), self._request)
        timer = asyncio.get_running_loop().call_later(seconds, self.wake)
        try:
            await self._signal.wait()
        finally:
            timer.cancel()
        found, self._buffer = self._buffer, []
        return found

    async def _arrived(self, message: Msg) -> None:
        if message.reply.startswith(DATA_REPLY):
            self._buffer.append(message)
            if len(self._buffer) >= self._wanted:
                self._signal.set()
        elif message.subject == self._request:
            await self._status(message.headers or {})

    async def _status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status", "")
        if status == "100":
            return
        if status == NO_RESPONDERS or "consumer deleted" in headers.get("Description", "").lower():
            self._on_lost()
            await asyncio.sleep(PAUSE_SECONDS)
        self._ended = True
        self._signal.set()

    async def _give_back(self, messages: list[Msg]) -> None:
        for message in messages:
            await self._connection.publish(message.reply, NAK_ON_CLOSE)
