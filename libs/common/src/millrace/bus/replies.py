"""Requests over one reply subscription per connection: publishes that wait for their confirmation, and double acks.

nats-py's `publish_async` and `request` make a NUID, a random token and a `wait_for` each; a counter and one timer
cost a third of that, and pay for the task per message that the relay and the settle middleware need.
"""

from __future__ import annotations

import asyncio
import itertools

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from millrace.errors import Unavailable

NO_RESPONDERS = "503"


class Replies:
    """Sends with a reply subject and waits for the one answer."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self._prefix = f"{connection.new_inbox()}."
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def open(self) -> None:
        """Subscribe to the answers."""
        await self.connection.subscribe(f"{self._prefix}*", cb=self._answered)

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: dict[str, str] | None = None,
        seconds: float,
        future: asyncio.Future[Msg] | None = None,
    ) -> Msg:
        """Publish and return the answer. `future` lets the caller fail the wait from elsewhere.

        Raises:
            TimeoutError: no answer within `seconds`.
            Unavailable: not connected, or not any more: whether it arrived is unknown.
            NoRespondersError: nobody takes the subject.
            nats.errors.Error: the client refuses to send it.
        """
        if not self.connection.is_connected:
            raise Unavailable("not connected to NATS")
        loop = asyncio.get_running_loop()
        answer = self._prefix + str(next(self._numbers))
        waiting = future or loop.create_future()
        self._waiting[answer] = waiting
        timer = loop.call_later(seconds, _give_up, waiting)
        try:
            await self.connection.publish(subject, payload, answer, headers)
            found = await waiting
        finally:
            timer.cancel()
            del self._waiting[answer]
        if found.headers and found.headers.get("Status") == NO_RESPONDERS:
            raise NoRespondersError
        return found

    def broken(self) -> None:
        """Fail every wait: the connection is gone, and with it the answers."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("the connection to NATS broke; the outcome is unknown"))

    async def _answered(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)


def _give_up(waiting: asyncio.Future[Msg]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
