"""What every publisher must do. A test module subclasses this and gives the fixtures `publisher` and `subject`."""

from __future__ import annotations

import asyncio

import pytest

from millrace.errors import Unavailable
from millrace.publishing import Publisher

SUBJECT = "evt.data.landed.v1.default"


class PublisherContract:
    """The contract suite: run on memory and on a real broker."""

    async def test_a_message_is_stored_once_per_id(self, publisher: Publisher) -> None:
        """The second publish says so, and names the first one's place."""
        first = await publisher.publish(SUBJECT, b"{}", message_id="a")
        again = await publisher.publish(SUBJECT, b"{}", message_id="a")
        other = await publisher.publish(SUBJECT, b"{}", message_id="b")
        assert (first.stream, first.duplicate, again.duplicate, other.duplicate) == ("EVENTS", False, True, False)
        assert first.sequence == again.sequence
        assert other.sequence == first.sequence + 1

    async def test_many_publishes_run_at_once(self, publisher: Publisher) -> None:
        """Each gets its own confirmation."""
        found = await asyncio.gather(
            *(publisher.publish(SUBJECT, b"{}", message_id=f"m{number}") for number in range(300))
        )
        assert len({item.sequence for item in found}) == 300

    async def test_a_subject_of_no_stream_is_unavailable(self, publisher: Publisher) -> None:
        """The stream may be created a moment later, so that it is no final refusal."""
        with pytest.raises(Unavailable):
            await publisher.publish("nowhere.at.all", b"{}", message_id="a")

    async def test_the_epoch_stays_while_the_stream_lives(self, publisher: Publisher) -> None:
        """It is the same string each time; an unknown stream is unavailable."""
        assert await publisher.stream_epoch("EVENTS") == await publisher.stream_epoch("EVENTS")
